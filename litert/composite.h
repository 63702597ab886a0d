/* The composites that the delegate computes: what a graph says of them, and their run. */
#ifndef XF_LITERT_COMPOSITE_H
#define XF_LITERT_COMPOSITE_H

#include <stdbool.h>

#include "litert/abi.h"
#include "litert/engine.h"

enum xf_composite_kind { XF_COMPOSITE_ATTENTION, XF_COMPOSITE_RMS_NORM, XF_COMPOSITE_KINDS };

/* Indices of tensors of the graph. */
struct xf_composite {
  enum xf_composite_kind kind;
  union {
    struct {
      int q, k, v; /* f32 [batch, q_len, q_heads, d], [batch, keys, kv_heads, d] */
      int mask;    /* f32, to be broadcast to [batch, q_heads, q_len, keys]; −1: none */
      float scale, logit_cap; /* 0: 1 / sqrt(d); no cap */
    } attention;
    struct {
      int x, w; /* f32 [..., n], [n] */
      float epsilon;
    } rms_norm;
  };
  int out; /* f32, shaped as q or x */
};

/* "odml.scaled_dot_product_attention" … */
const char *xf_composite_name(enum xf_composite_kind kind);
/* Whether the node is a composite of a name above; checked nodes only. */
bool xf_composite_is(const TfLiteNode *node, const TfLiteRegistration *registration);

/* Reads such a node. Any failure is the reason why the node is not one that we can compute. */
xf_status xf_composite_read(const TfLiteContext *context, const TfLiteNode *node,
                            struct xf_composite *out, xf_error *error);

/* The memory that a run needs with the tensors' shapes as they are, which must fit each other. */
xf_status xf_composite_workspace(const struct xf_litert_engine *engine,
                                 const TfLiteContext *context, const struct xf_composite *composite,
                                 size_t *bytes, xf_error *error);
/* Gives the output the shape of q or x. False: LiteRT could not. */
bool xf_composite_shape_output(TfLiteContext *context, const struct xf_composite *composite);
/* workspace: aligned to 64, of that size. */
xf_status xf_composite_run(const struct xf_litert_engine *engine, const TfLiteContext *context,
                           const struct xf_composite *composite, void *workspace, size_t bytes,
                           xf_error *error);

#endif
