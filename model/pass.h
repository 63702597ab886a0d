/* One pass of a forward call through the layers, and the operators it is made of. */
#ifndef XF_MODEL_PASS_H
#define XF_MODEL_PASS_H

#include "model/workspace.h"

/* Rows of the workspace, grouped by sequence. */
struct xf_pass {
  const xf_model *model;
  struct xf_workspace *w;
  size_t rows, n_sequences;
  struct xf_kv_layout kv; /* of the layer */
  int32_t layer;          /* −1: outside of the layers */
  const float *norm;      /* the gains that the next norm applies */
  xf_status status;       /* of the first operator that failed; later ones do nothing */
  xf_error *error;
};

/* All rows' attention, for the memory that it needs and the places of its rows. */
struct xf_attention xf_pass_attention_call(const struct xf_pass *pass);

/* The operators, each on all rows. The arrays are those of struct xf_workspace. */
void xf_pass_embed(struct xf_pass *pass); /* h, and RoPE's angles */
/* h = h + x (where add), x = norm(h) · gain */
void xf_pass_norm(struct xf_pass *pass, bool add, const char *tensor, const float *gain);
/* y = x · wᵀ, the rows of x being ldx apart and those of y w->n */
void xf_pass_linear(struct xf_pass *pass, const char *tensor, const struct xf_linear *w, float *x,
                    size_t ldx, float *y);
void xf_pass_rope_and_store(struct xf_pass *pass); /* q and k of qkv; k and v go to the cache */
void xf_pass_attention(struct xf_pass *pass);      /* qkv and the cache → attention */
void xf_pass_silu(struct xf_pass *pass);           /* gate_up, in place of gate */

#endif
