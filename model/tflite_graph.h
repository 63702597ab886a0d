/* Patterns of operators in a .tflite graph. All look at what makes a tensor: where that is not the
 * pattern, the result is false, or −1 for a tensor. */
#ifndef XF_MODEL_TFLITE_GRAPH_H
#define XF_MODEL_TFLITE_GRAPH_H

#include "model/flexbuffers.h"
#include "model/tflite.h"

/* Behind all RESHAPEs; `turned`: and behind TRANSPOSEs that exchange the two middle dimensions. */
int xf_graph_plain(const struct xf_tflite *t, int tensor);
int xf_graph_turned(const struct xf_tflite *t, int tensor);
/* The operator of that code that makes the tensor, RESHAPEs aside, without an activation; or NULL.
 */
const struct xf_tflite_op *xf_graph_op(struct xf_tflite *t, int tensor, enum xf_tflite_code code);
/* The two operands of ADD, MUL or SUB. */
bool xf_graph_pair(struct xf_tflite *t, int tensor, enum xf_tflite_code code, int operands[2]);
/* The constant that a tensor is, or is made of by widening it. */
int xf_graph_constant(struct xf_tflite *t, int tensor);
/* Whether it is the signature's positions. */
bool xf_graph_is_position(struct xf_tflite *t, int tensor);
/* Whether it is where DYNAMIC_UPDATE_SLICE begins to store the signature's one token: at the
 * indices [0, position, 0, 0]. */
bool xf_graph_is_place(struct xf_tflite *t, int tensor);
/* A matrix product without bias: what it is applied to, and its constant. */
bool xf_graph_linear(struct xf_tflite *t, int tensor, int *x, int *weights);
/* A composite of that name, with numbers among its attributes. XF_E_SHAPE: it is no such composite,
 * and there is no message. */
xf_status xf_graph_composite(struct xf_tflite *t, int tensor, const char *name,
                             struct xf_flex_number *numbers, size_t n,
                             const struct xf_tflite_op **out, xf_error *error);

/* What a SLICE along one dimension takes from a tensor of one row: `groups` runs of `run` numbers,
 * `pitch` apart, from `first` on. */
struct xf_graph_slice {
  size_t first, run, pitch, groups;
};
bool xf_graph_slice(struct xf_tflite *t, int tensor, int *from, struct xf_graph_slice *out);

/* Rotated halves: the tensor that is turned, and the constant frequencies [head_dim/2]. */
bool xf_graph_rope(struct xf_tflite *t, int tensor, int *x, int *inv_freq);

/* An additive mask [1, 1, n, keys] by which a token sees the keys up to its position: rows of a
 * constant table, or chosen by keys > positions; or an input of the signature. */
bool xf_graph_causal(struct xf_tflite *t, int tensor, size_t keys);

#endif
