/* The matrices of a checkpoint. */
#ifndef XF_MODEL_SOURCE_H
#define XF_MODEL_SOURCE_H

#include "dispatch/matrix.h"
#include "model/checkpoint.h"

/* A tensor, and the matrix that it is. */
struct xf_source {
  const struct xf_tensor *tensor;
  struct xf_matrix matrix; /* rows in the file's order */
};

/* The matrix [n, k] of that role, which must be there, of any type of weights; a bias must not be
 * there, for the model would be computed without it. */
xf_status xf_source_get(const struct xf_checkpoint *checkpoint, enum xf_role role, size_t layer,
                        size_t n, size_t k, struct xf_source *out, xf_error *error);
/* There must be no more layers than the config has: the model would be computed without them. */
xf_status xf_source_expect_layers(const struct xf_checkpoint *checkpoint, size_t layers,
                                  xf_error *error);

#endif
