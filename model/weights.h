/* A model's weights in the form that forward uses. */
#ifndef XF_MODEL_WEIGHTS_H
#define XF_MODEL_WEIGHTS_H

#include "dispatch/linear.h"
#include "exactflash/model.h"
#include "model/checkpoint.h"
#include "model/config.h"

enum { XF_TYPES_MOST = sizeof((xf_model_info *)0)->types / sizeof(xf_type_share) };

struct xf_layer {
  float *attention_norm; /* [hidden] */
  struct xf_linear qkv;  /* [(heads + 2·kv_heads)·head_dim, hidden]: q, k, v rows in that order */
  struct xf_linear o;    /* [hidden, heads·head_dim] */
  float *mlp_norm;       /* [hidden] */
  struct xf_linear gate_up; /* [2·intermediate, hidden]: gate rows, then up rows */
  struct xf_linear down;    /* [hidden, intermediate] */
};

struct xf_weights {
  struct xf_checkpoint *checkpoint; /* kept open for the embedding's rows */
  struct xf_matrix embedding;       /* [vocab, hidden], mapped */
  struct xf_layer *layers;          /* [config.layers] */
  size_t n_layers;
  float *norm;           /* [hidden] */
  struct xf_linear head; /* [vocab, hidden] */
  float *inv_freq;       /* [head_dim/2] */
  uint64_t parameters;
  xf_type type;    /* of the first layer's q, in the checkpoint */
  bool has_quants; /* 8- or 4-bit weights in a linear layer */
};

/* Packs a checkpoint, which then belongs to *out; on failure it is closed. Shapes must agree with
 * the config. progress (may be NULL) is called as ("load", done, layers + 1). */
xf_status xf_weights_load(const xf_context *context, const struct xf_config *config,
                          struct xf_checkpoint *checkpoint, xf_progress progress,
                          void *progress_arg, struct xf_weights *out, xf_error *error);
void xf_weights_free(struct xf_weights *weights); /* leaves it empty; an empty one is allowed */
/* The types of all weights in memory, most bytes first; returns their number. */
size_t xf_weights_types(const struct xf_weights *weights, xf_type_share out[static XF_TYPES_MOST]);

#endif
