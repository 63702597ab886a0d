/* The activations of one forward call. A model keeps the workspaces of finished calls for the next
 * ones, so that a decode step allocates nothing. */
#ifndef XF_MODEL_WORKSPACE_H
#define XF_MODEL_WORKSPACE_H

#include "model/model.h"

/* A growable buffer of floats. */
struct xf_buffer {
  float *data;
  size_t capacity;
};

/* One row of a pass: a token of a sequence. */
struct xf_row {
  const struct xf_sequence *sequence;
  int32_t token;
  size_t position;
  float *logits; /* NULL: none wanted */
};

struct xf_workspace {
  struct xf_workspace *next; /* in the model's idle list */
  size_t max_rows;
  struct xf_row *rows;                     /* [max_rows] */
  struct xf_attention_sequence *sequences; /* [max_rows] */
  float *h;                                /* (rows, hidden) the residual stream */
  float *x;                                /* (rows, hidden) what enters or leaves a linear layer */
  float *qkv;                              /* (rows, (heads + 2·kv_heads)·head_dim) */
  float *attention;                        /* (rows, heads·head_dim) */
  float *gate_up;                          /* (rows, 2·intermediate) */
  float *cos, *sin;                        /* (rows, head_dim/2) */
  int64_t *positions;                      /* [max_rows], for boundaries */
  int32_t *tokens;                         /* [max_rows], likewise */
  const struct xf_cache **caches;          /* [max_rows], likewise */
  struct xf_linear_scratch linear;         /* divides linear_memory */
  void *linear_memory;
  struct xf_buffer scores; /* attention's workspace */
  struct xf_buffer logits; /* (rows, vocab), where the callers' rows are not one block */
};

/* NULL when out of memory. */
struct xf_workspace *xf_workspace_take(const xf_model *model);
void xf_workspace_give_back(const xf_model *model, struct xf_workspace *workspace);
void xf_workspace_free(struct xf_workspace *workspace); /* NULL is allowed */
/* At least `floats` floats, contents lost; false when out of memory. */
bool xf_buffer_grow(struct xf_buffer *buffer, size_t floats);

#endif
