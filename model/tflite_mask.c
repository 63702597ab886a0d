/* Causal masks in a .tflite graph. */
#include <string.h>

#include "model/tflite_graph.h"

/* An additive mask hides by this or less, −inf too. */
static const float HIDES = -1e30f;

static float float_at(const struct xf_tflite *t, int tensor, size_t i)
{
  float value;
  memcpy(&value, t->tensors[tensor].data + i * sizeof value, sizeof value);
  return value;
}

static bool is_floats(const struct xf_tflite *t, int tensor, size_t n)
{
  return tensor >= 0 && t->tensors[tensor].type == XF_TFLITE_F32 && t->tensors[tensor].data &&
         t->tensors[tensor].bytes / sizeof(float) == n;
}

/* [positions][keys]: zeros up to the position. */
static bool causal_table(const struct xf_tflite *t, int tensor, size_t keys)
{
  if (!is_floats(t, tensor, keys * keys)) return false;
  for (size_t i = 0; i < keys; i++) {
    for (size_t j = 0; j < keys; j++) {
      float value = float_at(t, tensor, i * keys + j);
      if (j <= i ? value != 0 : !(value <= HIDES)) return false;
    }
  }
  return true;
}

/* Whether the tensor is the constant 0, 1, 2 … keys − 1. */
static bool counts_keys(struct xf_tflite *t, int tensor, size_t keys)
{
  int constant = xf_graph_constant(t, xf_graph_plain(t, tensor));
  if (constant < 0 || t->tensors[constant].type != XF_TFLITE_I32 ||
      t->tensors[constant].bytes != keys * sizeof(int32_t))
    return false;
  for (size_t i = 0; i < keys; i++)
    if (xf_load_le(t->tensors[constant].data + i * sizeof(int32_t), sizeof(int32_t)) != i)
      return false;
  return true;
}

/* keys > positions ? hides : 0 */
static bool causal_choice(struct xf_tflite *t, const struct xf_tflite_op *op, size_t keys)
{
  int compared[2], hidden = xf_tflite_input(t, op, 1), seen = xf_tflite_input(t, op, 2);
  return xf_graph_pair(t, xf_tflite_input(t, op, 0), XF_TFLITE_GREATER, compared) &&
         counts_keys(t, compared[0], keys) && xf_graph_is_position(t, compared[1]) &&
         is_floats(t, hidden, 1) && float_at(t, hidden, 0) <= HIDES && is_floats(t, seen, 1) &&
         float_at(t, seen, 0) == 0;
}

bool xf_graph_causal(struct xf_tflite *t, int tensor, size_t keys)
{
  if (keys == 0 || keys >= (size_t)1 << 24) return false;
  int plain = xf_graph_plain(t, tensor);
  if (plain >= 0 && plain == xf_tflite_signature_input(t, "mask")) return true;
  const struct xf_tflite_op *op = xf_graph_op(t, tensor, XF_TFLITE_SELECT_V2);
  if (!op) return false;
  if (causal_choice(t, op, keys)) return true;
  /* Rows of a table, with something else for positions out of its range. */
  const struct xf_tflite_op *rows = xf_graph_op(t, xf_tflite_input(t, op, 1), XF_TFLITE_GATHER_ND);
  return rows && causal_table(t, xf_tflite_input(t, rows, 0), keys);
}
