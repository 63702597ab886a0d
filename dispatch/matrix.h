/* A weight matrix as a file or a host has it. */
#ifndef XF_DISPATCH_MATRIX_H
#define XF_DISPATCH_MATRIX_H

#include "dispatch/context.h"
#include "kernels/kernels.h"

/* [n, k] row-major, maybe unaligned. Fields behind k are zeros as a rule. */
struct xf_matrix {
  const void *data;
  xf_type type;
  size_t n, k;
  /* 0: row r is the file's row r. Else an even divisor of n: in every group of so many rows, rows i
   * and i + paired/2 are the file's rows 2i and 2i + 1. */
  size_t paired;
  /* Not 0: behind every `run` rows the file has `skip` others. Not with `paired`. */
  size_t run, skip;
  ptrdiff_t gap; /* bytes from the end of a row to the next one; negative where rows overlap */
  /* Not 0: the numbers of a type of 16 bits lie so many bytes apart; for xf_linear_pack only. */
  size_t step;
  const void *scales; /* of I8_ROW: f32 [n] in the file's order, maybe unaligned */
};

/* Bytes of one row. */
size_t xf_matrix_row_bytes(const struct xf_matrix *matrix);
/* Row `row`, and its scale (0 where the type has none). */
const void *xf_matrix_row(const struct xf_matrix *matrix, size_t row, float *scale);
/* The row as floats: y [k]. */
void xf_matrix_widen(const struct xf_kernels *kernels, const struct xf_matrix *matrix, size_t row,
                     float *y);
/* Turns f32 into bf16 where that loses nothing: the upper halves of the same numbers, if all lower
 * halves are zeros. Most checkpoints were trained in bf16, and are that in files of f32 too. Panels
 * of bf16 then give the same bits, and decode reads half as much. Other types stay as they are. */
void xf_matrix_narrow(const xf_context *context, struct xf_matrix *matrix);

#endif
