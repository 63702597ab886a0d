#include "model/tflite_graph.h"

#include <string.h>

enum { CHAIN_MOST = 8, ACTIVATION = 0, CONCATENATION_AXIS = 0, CONCATENATION_ACTIVATION = 1 };
enum composite { COMPOSITE_NAME = 0, COMPOSITE_ATTRIBUTES = 2 };

static const struct xf_tflite_op *maker(const struct xf_tflite *t, int tensor)
{
  int producer = tensor < 0 ? -1 : t->tensors[tensor].producer;
  return producer < 0 ? NULL : &t->ops[producer];
}

/* A constant of n integers of 32 bits. */
static bool integers(const struct xf_tflite *t, int tensor, size_t n, int32_t *out)
{
  if (tensor < 0 || t->tensors[tensor].type != XF_TFLITE_I32 || !t->tensors[tensor].data ||
      t->tensors[tensor].bytes != n * sizeof *out)
    return false;
  memcpy(out, t->tensors[tensor].data, n * sizeof *out);
  return true;
}

static bool exchanges_middle(const struct xf_tflite *t, const struct xf_tflite_op *op)
{
  static const int32_t wanted[4] = {0, 2, 1, 3};
  int32_t order[4];
  return integers(t, xf_tflite_input(t, op, 1), 4, order) &&
         memcmp(order, wanted, sizeof order) == 0;
}

static int behind(const struct xf_tflite *t, int tensor, bool turned)
{
  for (int i = 0; i < CHAIN_MOST; i++) {
    const struct xf_tflite_op *op = maker(t, tensor);
    bool passes = op && (op->code == XF_TFLITE_RESHAPE ||
                         (turned && op->code == XF_TFLITE_TRANSPOSE && exchanges_middle(t, op)));
    if (!passes) break;
    tensor = xf_tflite_input(t, op, 0);
  }
  return tensor;
}

int xf_graph_plain(const struct xf_tflite *t, int tensor)
{
  return behind(t, tensor, false);
}

int xf_graph_turned(const struct xf_tflite *t, int tensor)
{
  return behind(t, tensor, true);
}

const struct xf_tflite_op *xf_graph_op(struct xf_tflite *t, int tensor, enum xf_tflite_code code)
{
  const struct xf_tflite_op *op = maker(t, xf_graph_plain(t, tensor));
  unsigned field = code == XF_TFLITE_CONCATENATION ? CONCATENATION_ACTIVATION : ACTIVATION;
  bool has_activation = code == XF_TFLITE_ADD || code == XF_TFLITE_MUL || code == XF_TFLITE_SUB ||
                        code == XF_TFLITE_FULLY_CONNECTED || code == XF_TFLITE_CONCATENATION;
  if (!op || op->code != (int)code) return NULL;
  return has_activation && xf_fb_unsigned(&t->fb, op->options, field, 1, 0) ? NULL : op;
}

bool xf_graph_pair(struct xf_tflite *t, int tensor, enum xf_tflite_code code, int operands[2])
{
  const struct xf_tflite_op *op = xf_graph_op(t, tensor, code);
  if (!op || op->inputs.n != 2) return false;
  operands[0] = xf_tflite_input(t, op, 0);
  operands[1] = xf_tflite_input(t, op, 1);
  return operands[0] >= 0 && operands[1] >= 0;
}

int xf_graph_constant(struct xf_tflite *t, int tensor)
{
  if (tensor < 0 || t->tensors[tensor].data) return tensor;
  const struct xf_tflite_op *op = maker(t, tensor);
  int from = op && op->code == XF_TFLITE_DEQUANTIZE ? xf_tflite_input(t, op, 0) : -1;
  return from >= 0 && t->tensors[from].data ? from : -1;
}

bool xf_graph_linear(struct xf_tflite *t, int tensor, int *x, int *weights)
{
  const struct xf_tflite_op *op = xf_graph_op(t, tensor, XF_TFLITE_FULLY_CONNECTED);
  if (!op || xf_tflite_input(t, op, 2) >= 0) return false;
  *x = xf_graph_plain(t, xf_tflite_input(t, op, 0));
  *weights = xf_graph_constant(t, xf_tflite_input(t, op, 1));
  return *x >= 0 && *weights >= 0 && t->tensors[*weights].rank == 2;
}

xf_status xf_graph_composite(struct xf_tflite *t, int tensor, const char *name,
                             struct xf_flex_number *numbers, size_t n,
                             const struct xf_tflite_op **out, xf_error *error)
{
  const struct xf_tflite_op *op = xf_graph_op(t, tensor, XF_TFLITE_COMPOSITE);
  const char *found = op ? xf_fb_string(&t->fb, op->options_2, COMPOSITE_NAME) : NULL;
  if (!found || strcmp(found, name) != 0) return XF_E_SHAPE;
  *out = op;
  struct xf_fb_vector attributes = xf_fb_vector(&t->fb, op->options_2, COMPOSITE_ATTRIBUTES, 1);
  return xf_flex_read_numbers(t->path, t->fb.data + attributes.at, attributes.n, numbers, n, error);
}

bool xf_graph_slice(struct xf_tflite *t, int tensor, int *from, struct xf_graph_slice *out)
{
  enum { RANK = 4 };
  int32_t begin[RANK], size[RANK];
  const struct xf_tflite_op *op = xf_graph_op(t, tensor, XF_TFLITE_SLICE);
  *from = op ? xf_tflite_input(t, op, 0) : -1;
  if (*from < 0 || t->tensors[*from].rank != RANK) return false;
  const size_t *shape = t->tensors[*from].shape;
  if (!integers(t, xf_tflite_input(t, op, 1), RANK, begin) ||
      !integers(t, xf_tflite_input(t, op, 2), RANK, size))
    return false;
  *out = (struct xf_graph_slice){0, 1, 1, 1};
  bool cut = false;
  for (int i = RANK - 1; i >= 0; i--) {
    if (out->pitch > UINT32_MAX || out->groups > UINT32_MAX) return false;
    if (begin[i] < 0 || size[i] < 1 || (size_t)begin[i] + (size_t)size[i] > shape[i]) return false;
    bool whole = (size_t)size[i] == shape[i];
    if (cut && !whole) return false;
    if (!cut) out->first = (size_t)begin[i] * out->pitch;
    if (!cut) out->run *= (size_t)size[i];
    *(cut ? &out->groups : &out->pitch) *= shape[i];
    cut = cut || !whole;
  }
  return true;
}

bool xf_graph_is_position(struct xf_tflite *t, int tensor)
{
  int plain = xf_graph_plain(t, tensor);
  return plain >= 0 && plain == xf_tflite_signature_input(t, "input_pos");
}

/* The one position of the signature, cut out maybe. */
static bool is_one_position(struct xf_tflite *t, int tensor)
{
  const struct xf_tflite_op *cut = xf_graph_op(t, tensor, XF_TFLITE_SLICE);
  int position = xf_graph_plain(t, cut ? xf_tflite_input(t, cut, 0) : tensor);
  if (!xf_graph_is_position(t, position) || t->tensors[position].rank > 4) return false;
  for (size_t i = 0; i < t->tensors[position].rank; i++)
    if (t->tensors[position].shape[i] != 1) return false;
  return true;
}

bool xf_graph_is_place(struct xf_tflite *t, int tensor)
{
  static const int32_t zeros[3];
  int32_t numbers[3];
  size_t n = 0, position = 0;
  const struct xf_tflite_op *op = xf_graph_op(t, tensor, XF_TFLITE_PACK);
  if (!op) op = xf_graph_op(t, tensor, XF_TFLITE_CONCATENATION);
  for (size_t i = 0; op && i < op->inputs.n; i++) {
    int part = xf_tflite_input(t, op, i);
    if (part >= 0 && is_one_position(t, part)) {
      if (n++ != 1) return false;
      position++;
      continue;
    }
    size_t count = part < 0 ? 0 : t->tensors[part].bytes / sizeof *numbers;
    if (count > 3 || !integers(t, part, count, numbers) ||
        memcmp(numbers, zeros, count * sizeof *numbers) != 0)
      return false;
    n += count;
  }
  return n == 4 && position == 1;
}

/* cos or sin of positions · frequencies. */
static bool angles(struct xf_tflite *t, int tensor, enum xf_tflite_code code, int *inv_freq)
{
  int factors[2];
  const struct xf_tflite_op *op = xf_graph_op(t, tensor, code);
  if (!op || !xf_graph_pair(t, xf_tflite_input(t, op, 0), XF_TFLITE_MUL, factors)) return false;
  for (int i = 0; i < 2; i++) {
    *inv_freq = xf_graph_constant(t, xf_graph_plain(t, factors[i]));
    const struct xf_tflite_op *cast = xf_graph_op(t, factors[1 - i], XF_TFLITE_CAST);
    if (*inv_freq >= 0 && cast && xf_graph_is_position(t, xf_tflite_input(t, cast, 0))) return true;
  }
  return false;
}

/* half · cos or half · sin, in any order. */
static bool turned_half(struct xf_tflite *t, int tensor, enum xf_tflite_code code, int *half,
                        int *inv_freq)
{
  int factors[2];
  if (!xf_graph_pair(t, tensor, XF_TFLITE_MUL, factors)) return false;
  for (int i = 0; i < 2; i++) {
    *half = factors[i];
    if (angles(t, factors[1 - i], code, inv_freq)) return true;
  }
  return false;
}

/* a · cos ± b · sin; for the sum in any order. */
static bool turned_sum(struct xf_tflite *t, int tensor, enum xf_tflite_code code, int *a, int *b,
                       int inv_freq[2])
{
  int terms[2];
  if (!xf_graph_pair(t, tensor, code, terms)) return false;
  if (turned_half(t, terms[0], XF_TFLITE_COS, a, &inv_freq[0]))
    return turned_half(t, terms[1], XF_TFLITE_SIN, b, &inv_freq[1]);
  return code == XF_TFLITE_ADD && turned_half(t, terms[0], XF_TFLITE_SIN, b, &inv_freq[1]) &&
         turned_half(t, terms[1], XF_TFLITE_COS, a, &inv_freq[0]);
}

/* The first or second half of each row of *x. */
static bool half_of(struct xf_tflite *t, int tensor, size_t which, int *x)
{
  struct xf_graph_slice slice;
  return xf_graph_slice(t, tensor, x, &slice) && slice.pitch == t->tensors[*x].shape[3] &&
         2 * slice.run == slice.pitch && slice.first == which * slice.run;
}

bool xf_graph_rope(struct xf_tflite *t, int tensor, int *x, int *inv_freq)
{
  int a[2], b[2], frequencies[4], from[4];
  const struct xf_tflite_op *op = xf_graph_op(t, tensor, XF_TFLITE_CONCATENATION);
  int32_t axis = op ? xf_fb_i32(&t->fb, op->options, CONCATENATION_AXIS, 0) : 0;
  if (!op || op->inputs.n != 2 || (axis != 3 && axis != -1)) return false;
  if (!turned_sum(t, xf_tflite_input(t, op, 0), XF_TFLITE_SUB, &a[0], &b[0], frequencies) ||
      !turned_sum(t, xf_tflite_input(t, op, 1), XF_TFLITE_ADD, &b[1], &a[1], frequencies + 2))
    return false;
  if (!half_of(t, a[0], 0, &from[0]) || !half_of(t, a[1], 0, &from[1]) ||
      !half_of(t, b[0], 1, &from[2]) || !half_of(t, b[1], 1, &from[3]))
    return false;
  *x = from[0];
  *inv_freq = frequencies[0];
  for (int i = 1; i < 4; i++)
    if (from[i] != *x || frequencies[i] != *inv_freq) return false;
  return true;
}
