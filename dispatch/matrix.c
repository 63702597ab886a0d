#include "dispatch/matrix.h"

#include <string.h>

#include "dispatch/quant.h"
#include "dispatch/widen.h"

size_t xf_matrix_row_bytes(const struct xf_matrix *matrix)
{
  return xf_type_row_bytes(matrix->type, matrix->k);
}

const void *xf_matrix_row(const struct xf_matrix *matrix, size_t row, float *scale)
{
  if (matrix->paired) {
    size_t half = matrix->paired / 2, in_group = row % matrix->paired;
    row += 2 * (in_group % half) + in_group / half - in_group;
  }
  if (matrix->run) row += row / matrix->run * matrix->skip;
  *scale = 0;
  if (matrix->scales)
    memcpy(scale, (const char *)matrix->scales + row * sizeof *scale, sizeof *scale);
  ptrdiff_t stride = (ptrdiff_t)xf_matrix_row_bytes(matrix) + matrix->gap;
  return (const char *)matrix->data + (ptrdiff_t)row * stride;
}

void xf_matrix_widen(const struct xf_kernels *kernels, const struct xf_matrix *matrix, size_t row,
                     float *y)
{
  struct xf_quant_row from;
  from.data = xf_matrix_row(matrix, row, &from.scale);
  if (xf_is_quant(matrix->type))
    xf_quant_widen(kernels, matrix->type, matrix->k, from, y);
  else
    xf_widen(kernels, matrix->type, matrix->k, from.data, y);
}
