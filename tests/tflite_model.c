#include "tests/tflite_model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model/checkpoint.h"
#include "model/tflite.h"
#include "tests/compare.h"
#include "tests/model_support.h"
#include "tests/tflite_file.h"

enum { NO_LLAMAS_CODE = 127 };

struct graph {
  const struct tflite_model *model;
  struct xf_config config;
  struct xf_checkpoint *checkpoint;
  struct tflite_file file;
  int mask, cos, sin; /* tensors */
  float *wide;        /* of weights_of */
};

/* ---- tensors and operators ---- */

static int add_tensor(struct graph *g, int type, int a, int b, int c, int d)
{
  assert_true(g->file.n_tensors < TFLITE_TENSORS_MOST);
  g->file.tensors[g->file.n_tensors] =
      (struct tflite_tensor){.type = type, .rank = 4, .shape = {a, b, c, d}};
  return g->file.n_tensors++;
}

static int constant(struct graph *g, int type, const int32_t shape[4], size_t rank,
                    const void *data, size_t bytes)
{
  int t = add_tensor(g, type, shape[0], shape[1], shape[2], shape[3]);
  g->file.tensors[t].rank = rank;
  g->file.tensors[t].bytes = bytes;
  g->file.tensors[t].data = malloc(bytes);
  assert_non_null(g->file.tensors[t].data);
  memcpy(g->file.tensors[t].data, data, bytes);
  return t;
}

static int integers(struct graph *g, int a, int b, int c, int d)
{
  const int32_t values[4] = {a, b, c, d}, shape[4] = {4};
  return constant(g, XF_TFLITE_I32, shape, 1, values, sizeof values);
}

static int scalar(struct graph *g, float value)
{
  const int32_t shape[4] = {0};
  return constant(g, XF_TFLITE_F32, shape, 0, &value, sizeof value);
}

/* Makes a tensor [a, b, c, d] of up to four others; −1 ends them. */
static int op(struct graph *g, int code, const int inputs[4], int n, const int32_t shape[4])
{
  int out = add_tensor(g, XF_TFLITE_F32, shape[0], shape[1], shape[2], shape[3]);
  assert_true(g->file.n_ops < TFLITE_OPS_MOST);
  struct tflite_op *made = &g->file.ops[g->file.n_ops++];
  *made = (struct tflite_op){.code = g->file.n_ops == g->model->change ? NO_LLAMAS_CODE : code,
                             .n_inputs = n,
                             .output = out};
  memcpy(made->inputs, inputs, sizeof made->inputs);
  return out;
}

static const int32_t *shape_of(const struct graph *g, int tensor)
{
  return g->file.tensors[tensor].shape;
}

static int unary(struct graph *g, int code, int x)
{
  return op(g, code, (const int[4]){x}, 1, shape_of(g, x));
}

static int binary(struct graph *g, int code, int a, int b)
{
  return op(g, code, (const int[4]){a, b}, 2, shape_of(g, a));
}

static int reshape(struct graph *g, int x, int a, int b, int c, int d)
{
  const int32_t shape[4] = {a, b, c, d};
  return op(g, XF_TFLITE_RESHAPE, (const int[4]){x, integers(g, a, b, c, d)}, 2, shape);
}

/* size of the dimension `axis`, from `begin` on. */
static int slice(struct graph *g, int x, int axis, int begin, int size)
{
  int32_t from[4] = {0}, shape[4];
  memcpy(shape, shape_of(g, x), sizeof shape);
  from[axis] = begin;
  shape[axis] = size;
  int at = integers(g, from[0], from[1], from[2], from[3]);
  int sizes = integers(g, shape[0], shape[1], shape[2], shape[3]);
  return op(g, XF_TFLITE_SLICE, (const int[4]){x, at, sizes}, 3, shape);
}

static void name_composite(struct graph *g, const char *name, const char *attribute, float value)
{
  struct tflite_op *made = &g->file.ops[g->file.n_ops - 1];
  made->composite = name;
  made->attribute = attribute;
  made->value = value;
}

/* ---- weights ---- */

/* As floats, until the next call. */
static const float *weights_of(struct graph *g, enum xf_role role, size_t layer, size_t n, size_t k)
{
  char name[XF_MAX_NAME];
  const struct xf_tensor *tensor;
  xf_error error = {0};
  xf_tensor_name(&xf_naming_hugging_face, role, layer, ".weight", name);
  expect_ok(xf_checkpoint_get(g->checkpoint, name, n, k, &tensor, &error), &error);
  size_t count = tensor->bytes / xf_type_size(tensor->type);
  free(g->wide);
  g->wide = new_floats(count);
  for (size_t i = 0; i < count; i++) {
    uint16_t half;
    memcpy(&half, (const char *)tensor->data + 2 * i, sizeof half);
    g->wide[i] = from_f16(half);
  }
  if (tensor->type == XF_F32) memcpy(g->wide, tensor->data, tensor->bytes);
  return g->wide;
}

/* Rows in the model's type, each with a scale of its own. */
static void quantize(const struct graph *g, struct tflite_tensor *t, size_t n, size_t k)
{
  const float *from = t->data;
  size_t element = g->model->type == XF_I8 ? 1 : 2;
  unsigned char *to = malloc(n * k * element);
  t->scales = malloc(n * sizeof *t->scales);
  assert_true(to && t->scales);
  for (size_t r = 0; r < n; r++) {
    float most = 1e-30f;
    for (size_t i = 0; i < k; i++) most = fmaxf(most, fabsf(from[r * k + i]));
    t->scales[r] = most / 127;
    for (size_t i = 0; i < k; i++) {
      uint16_t half = to_f16(from[r * k + i]);
      signed char byte = (signed char)lrintf(from[r * k + i] / t->scales[r]);
      memcpy(to + (r * k + i) * element, element == 1 ? (void *)&byte : (void *)&half, element);
    }
  }
  free(t->data);
  t->data = to;
  t->bytes = n * k * element;
  t->type = element == 1 ? XF_TFLITE_I8 : XF_TFLITE_F16;
}

static int matrix_of(struct graph *g, const float *data, size_t n, size_t k)
{
  const int32_t shape[4] = {(int32_t)n, (int32_t)k};
  int t = constant(g, XF_TFLITE_F32, shape, 2, data, n * k * sizeof *data);
  if (g->model->type && g->model->type != XF_F32) quantize(g, &g->file.tensors[t], n, k);
  return t;
}

static int matrix(struct graph *g, enum xf_role role, size_t layer, size_t n, size_t k)
{
  return matrix_of(g, weights_of(g, role, layer, n, k), n, k);
}

static int linear(struct graph *g, int x, int weights)
{
  const int32_t shape[4] = {1, 1, 1, shape_of(g, weights)[0]};
  return op(g, XF_TFLITE_FULLY_CONNECTED, (const int[4]){x, weights, -1}, 3, shape);
}

static int norm(struct graph *g, int x, enum xf_role role, size_t layer)
{
  size_t n = g->config.hidden;
  const int32_t shape[4] = {(int32_t)n};
  int w = constant(g, XF_TFLITE_F32, shape, 1, weights_of(g, role, layer, n, 0), n * sizeof(float));
  int out = op(g, XF_TFLITE_COMPOSITE, (const int[4]){x, w}, 2, shape_of(g, x));
  float epsilon = g->config.rms_eps;
  if (g->model->epsilon != 0 && role == XF_ATTENTION_NORM && layer + 1 == g->config.layers)
    epsilon = g->model->epsilon;
  name_composite(g, "odml.rms_norm", "epsilon", epsilon);
  return out;
}

/* q, k and v in one matrix. */
static int fused(struct graph *g, size_t layer)
{
  const struct xf_config *c = &g->config;
  size_t h = c->hidden, d = c->head_dim, q = c->heads / c->kv_heads * d, at = 0;
  size_t groups = g->model->interleaved ? c->kv_heads : 1, whole = c->kv_heads / groups;
  const struct {
    enum xf_role role;
    size_t rows; /* of a group */
  } parts[] = {{XF_Q, whole * q}, {XF_K, whole * d}, {XF_V, whole * d}};
  size_t rows = (c->heads + 2 * c->kv_heads) * d;
  float *data = new_floats(rows * h);
  for (size_t i = 0; i < groups; i++) {
    for (size_t p = 0; p < 3; p++) {
      const float *from = weights_of(g, parts[p].role, layer, parts[p].rows * groups, h);
      memcpy(data + at, from + i * parts[p].rows * h, parts[p].rows * h * sizeof *data);
      at += parts[p].rows * h;
    }
  }
  int t = matrix_of(g, data, rows, h);
  free(data);
  return t;
}

/* ---- the Llama ---- */

static int rotated(struct graph *g, int x)
{
  int half = shape_of(g, x)[3] / 2;
  int a = slice(g, x, 3, 0, half), b = slice(g, x, 3, half, half);
  int low = binary(g, XF_TFLITE_SUB, binary(g, XF_TFLITE_MUL, a, g->cos),
                   binary(g, XF_TFLITE_MUL, b, g->sin));
  int high = binary(g, XF_TFLITE_ADD, binary(g, XF_TFLITE_MUL, b, g->cos),
                    binary(g, XF_TFLITE_MUL, a, g->sin));
  return op(g, XF_TFLITE_CONCATENATION, (const int[4]){low, high}, 2, shape_of(g, x));
}

/* Where k and v are stored: [0, position, 0, 0], in the two ways that converters have. */
static int place(struct graph *g)
{
  static const int32_t zero[2], four[4] = {4}, one[4] = {1};
  int along = g->model->stored_along ? g->model->stored_along - 1 : 1;
  int position = g->file.input_pos;
  if (g->model->table)
    position = reshape(g, position, 1, 0, 0, 0);
  else
    position = op(g, XF_TFLITE_SLICE,
                  (const int[4]){position, constant(g, XF_TFLITE_I32, one, 1, zero, 4)}, 2, one);
  if (g->model->fixed_slot) position = constant(g, XF_TFLITE_I32, one, 1, zero, sizeof *zero);
  if (g->model->table || along != 1) {
    int parts[4];
    for (int i = 0; i < 4; i++)
      parts[i] = i == along ? position : constant(g, XF_TFLITE_I32, one, 0, zero, sizeof *zero);
    return op(g, XF_TFLITE_PACK, parts, 4, four);
  }
  int first = constant(g, XF_TFLITE_I32, one, 1, zero, sizeof *zero);
  int last = constant(g, XF_TFLITE_I32, (const int32_t[4]){2}, 1, zero, sizeof zero);
  return op(g, XF_TFLITE_CONCATENATION, (const int[4]){first, position, last}, 3, four);
}

static int stored(struct graph *g, int x)
{
  const int32_t *row = shape_of(g, x);
  int cache = add_tensor(g, XF_TFLITE_F32, 1, (int32_t)g->model->cache, row[2], row[3]);
  return op(g, XF_TFLITE_DYNAMIC_UPDATE_SLICE, (const int[4]){cache, x, place(g)}, 3,
            shape_of(g, cache));
}

static int attention(struct graph *g, int x, size_t layer)
{
  const struct xf_config *c = &g->config;
  int d = (int)c->head_dim, heads = (int)c->heads, kv = (int)c->kv_heads, q = heads / kv * d;
  int groups = g->model->interleaved ? kv : 1, all = (heads + 2 * kv) * d;
  int y = reshape(g, linear(g, x, fused(g, layer)), 1, 1, groups, all / groups),
      whole = kv / groups;
  int parts[3];
  for (int p = 0, at = 0; p < 3; p++) {
    int size = whole * (p == 0 ? q : d);
    parts[p] = reshape(g, slice(g, y, 3, at, size), 1, 1, p == 0 ? heads : kv, d);
    at += size;
  }
  int inputs[4] = {rotated(g, parts[0]), stored(g, rotated(g, parts[1])), stored(g, parts[2]),
                   g->model->unmasked ? -1 : g->mask};
  int out = op(g, XF_TFLITE_COMPOSITE, inputs, 4, shape_of(g, inputs[0]));
  float scale = 1 / sqrtf((float)d);
  name_composite(g, "odml.scaled_dot_product_attention", "scale",
                 g->model->scale != 0 ? g->model->scale * scale : scale);
  return linear(g, reshape(g, out, 1, 1, 1, heads * d),
                matrix(g, XF_O, layer, c->hidden, (size_t)(heads * d)));
}

static int feed_forward(struct graph *g, int x, size_t layer)
{
  size_t h = g->config.hidden, ff = g->config.intermediate;
  int gate = linear(g, x, matrix(g, XF_GATE, layer, ff, h));
  int silu = binary(g, XF_TFLITE_MUL, gate, unary(g, XF_TFLITE_LOGISTIC, gate));
  int up = linear(g, x, matrix(g, XF_UP, layer, ff, h));
  return linear(g, binary(g, XF_TFLITE_MUL, silu, up), matrix(g, XF_DOWN, layer, h, ff));
}

static void causal(struct graph *g)
{
  int keys = (int)g->model->cache;
  const int32_t shape[4] = {1, 1, 1, keys}, square[4] = {keys, keys};
  float *table = new_floats((size_t)keys * (size_t)keys);
  int32_t *slots = calloc((size_t)keys, sizeof *slots);
  assert_non_null(slots);
  for (int i = 0; i < keys; i++) slots[i] = i;
  for (int i = 0; i < keys * keys; i++) table[i] = i % keys <= i / keys ? 0 : -INFINITY;
  size_t bytes = (size_t)keys * sizeof(float);
  if (g->model->table) {
    int rows = constant(g, XF_TFLITE_F32, square, 2, table, (size_t)keys * bytes);
    int row = op(g, XF_TFLITE_GATHER_ND, (const int[4]){rows, g->file.input_pos}, 2, shape);
    int inside = constant(g, XF_TFLITE_I32, shape, 4, slots, bytes);
    g->mask = op(g, XF_TFLITE_SELECT_V2, (const int[4]){inside, row, scalar(g, NAN)}, 3, shape);
  } else {
    int count = constant(g, XF_TFLITE_I32, shape, 4, slots, bytes);
    int later = binary(g, XF_TFLITE_GREATER, count, reshape(g, g->file.input_pos, 1, 1, 1, 1));
    int choices[4] = {later, scalar(g, -3e38f), scalar(g, 0)};
    g->mask = op(g, XF_TFLITE_SELECT_V2, choices, 3, shape);
  }
  free(table);
  free(slots);
}

static void angles(struct graph *g)
{
  int half = (int)g->config.head_dim / 2;
  const int32_t shape[4] = {1, 1, half};
  float *inv_freq = new_floats((size_t)half);
  xf_rope_inv_freq(&g->config, inv_freq);
  int table = constant(g, XF_TFLITE_F32, shape, 3, inv_freq, (size_t)half * sizeof *inv_freq);
  int of = g->model->rotates_tokens ? g->file.tokens : g->file.input_pos;
  int angle = binary(g, XF_TFLITE_MUL, unary(g, XF_TFLITE_CAST, of), table);
  g->cos = unary(g, XF_TFLITE_COS, angle);
  g->sin = reshape(g, unary(g, XF_TFLITE_SIN, angle), 1, 1, 1, half);
  free(inv_freq);
}

static void build(struct graph *g)
{
  size_t h = g->config.hidden, vocab = g->config.vocab;
  const int32_t row[4] = {1, 1, 1, (int32_t)h};
  g->file.tokens = add_tensor(g, XF_TFLITE_I32, 1, 1, 1, 1);
  g->file.input_pos = add_tensor(g, XF_TFLITE_I32, 1, 1, 1, 1);
  int embedding = matrix(g, XF_EMBEDDING, 0, vocab, h);
  int x = op(g, XF_TFLITE_EMBEDDING_LOOKUP, (const int[4]){g->file.tokens, embedding}, 2, row);
  angles(g);
  causal(g);
  for (size_t i = 0; i < g->config.layers; i++) {
    int attended = attention(g, norm(g, x, XF_ATTENTION_NORM, i), i);
    x = binary(g, XF_TFLITE_ADD, x, attended);
    int fed = feed_forward(g, norm(g, x, XF_MLP_NORM, i), i);
    x = binary(g, XF_TFLITE_ADD, fed, x);
  }
  int head = g->config.tied ? embedding : matrix(g, XF_HEAD, 0, vocab, h);
  g->file.logits = linear(g, norm(g, x, XF_FINAL_NORM, 0), head);
}

int tflite_model_write(const struct tflite_model *model, const char *folder, const char *path)
{
  struct tflite_model usual = *model;
  xf_error error = {0};
  struct graph *g = calloc(1, sizeof *g);
  assert_non_null(g);
  if (!usual.cache) usual.cache = 64;
  g->model = &usual;
  expect_ok(xf_checkpoint_open(folder, &g->config, &g->checkpoint, &error), &error);
  g->file.signature = model->signature ? model->signature : "decode";
  g->file.outside = model->outside;
  g->file.zero_point = model->zero_point;
  build(g);
  tflite_file_write(&g->file, path);
  int ops = g->file.n_ops;
  for (int i = 0; i < g->file.n_tensors; i++) {
    free(g->file.tensors[i].data);
    free(g->file.tensors[i].scales);
  }
  xf_checkpoint_close(g->checkpoint);
  free(g->wide);
  free(g);
  return ops;
}
