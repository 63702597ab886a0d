/* Linear layers: weights packed once into panels, applied many times. */
#ifndef XF_DISPATCH_LINEAR_H
#define XF_DISPATCH_LINEAR_H

#include "dispatch/context.h"
#include "dispatch/matrix.h"
#include "kernels/fast.h"
#include "kernels/quant.h"

enum { XF_LINEAR_PARTS = 3 };

/* Columns of a layer that have one type. */
struct xf_linear_part {
  xf_type type;
  uint32_t n;
};

struct xf_linear {
  size_t n, k;
  struct xf_linear_part parts[XF_LINEAR_PARTS]; /* the first n_parts */
  uint32_t n_parts;
  bool mapped; /* the panels lie in a file's memory */
  /* Each part's [ceil(n/16)] panels, at a multiple of 64 bytes: [k][16], or as kernels/quant.h
   * says; columns past n are zeros. */
  void *panels;
};

/* Packs 1 … XF_LINEAR_PARTS matrices with equal k one below the other into one layer (q, k and v
 * become one product), each in its own type. XF_E_SHAPE or XF_E_MEMORY. */
xf_status xf_linear_pack(const xf_context *context, const struct xf_matrix *matrices, size_t n,
                         struct xf_linear *out, xf_error *error);
/* The same of panels that xf_linear_pack made once, of matrices of these shapes (data is not read).
 * They must stay. XF_E_SHAPE, or XF_E_FORMAT: they are not so many bytes, or not aligned to 64. */
xf_status xf_linear_map(const struct xf_matrix *shapes, size_t n, const void *panels, size_t bytes,
                        struct xf_linear *out, xf_error *error);
void xf_linear_free(struct xf_linear *linear); /* leaves it empty; an empty one is allowed */
size_t xf_linear_bytes(const struct xf_linear *linear);
size_t xf_linear_part_bytes(const struct xf_linear *linear, size_t part);
/* The panels of a part. */
void *xf_linear_panels(const struct xf_linear *linear, size_t part);
/* Bytes of one panel. */
size_t xf_panel_bytes(xf_type type, size_t k);
/* Whether it has parts whose products are of integers unless activations stay floats. */
bool xf_linear_has_quants(const struct xf_linear *linear);

/* Memory of a call. */
struct xf_linear_scratch {
  float *floats;          /* [threads][XF_LINEAR_SCRATCH] */
  struct xf_quant_rows x; /* q NULL: activations of 8- and 4-bit weights stay f32 */
  uint32_t *pairs;        /* [rows][xf_fast_pairs(k)]; NULL: those of bf16 weights stay f32 */
};

/* Most rows of a call whose activations are of at most k numbers. */
struct xf_linear_rows {
  size_t quantized, rounded, k; /* 0: none are */
};

/* Rows that a layer of a type rounds to bf16: all in a context's fast mode. */
size_t xf_linear_rounded(const xf_context *context, const struct xf_linear *linear, size_t rows);
/* The scratch's bytes. */
size_t xf_linear_scratch_bytes(const xf_context *context, struct xf_linear_rows rows);
/* Divides them. memory is aligned to 4. */
struct xf_linear_scratch xf_linear_scratch_in(void *memory, const xf_context *context,
                                              struct xf_linear_rows rows);

/* y = x · wᵀ. x: [rows][k], y: [rows][n], no overlap. */
void xf_linear_apply(const xf_context *context, const struct xf_linear *w, size_t rows,
                     const float *x, size_t ldx, float *y, size_t ldy,
                     const struct xf_linear_scratch *scratch);

#endif
