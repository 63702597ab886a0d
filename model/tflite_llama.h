/* The Llama in a .tflite file that LiteRT's converters, or ours, have written. */
#ifndef XF_MODEL_TFLITE_LLAMA_H
#define XF_MODEL_TFLITE_LLAMA_H

#include "model/naming.h"
#include "model/tflite.h"

/* Rows of a constant: `groups` runs of `run` rows, `pitch` rows apart, from `first` on. */
struct xf_tflite_part {
  int tensor;
  size_t first, run, pitch, groups;
};

struct xf_tflite_llama {
  struct xf_tflite_part outside[XF_ATTENTION_NORM]; /* by role */
  struct xf_tflite_part (*layers)[XF_ROLES];        /* [n_layers], by role */
  size_t n_layers;
  size_t heads, kv_heads, head_dim, cache_len;
  double epsilon;
  int inv_freq; /* [head_dim/2] */
};

/* Follows the graph from the logits back to the tokens. Every operator on the way must be what a
 * Llama has there; any other model is XF_E_UNSUPPORTED, with what was not found. On failure *out is
 * empty. Sizes of constants are for the reader to check. */
xf_status xf_tflite_llama_read(struct xf_tflite *tflite, struct xf_tflite_llama *out,
                               xf_error *error);
void xf_tflite_llama_free(struct xf_tflite_llama *llama); /* leaves it empty */

#endif
