#include "dispatch/matrix.h"

#include <stdatomic.h>
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

/* ---- f32 that was bf16 once ---- */

struct search {
  const struct xf_matrix *matrix;
  _Atomic bool found; /* a number that is none of bf16 */
};

static void search_row(void *arg, size_t slot, size_t r)
{
  (void)slot;
  struct search *search = arg;
  float scale;
  uint32_t all = 0;
  if (search->found) return;
  const char *row = xf_matrix_row(search->matrix, r, &scale);
  for (size_t i = 0; i < search->matrix->k; i++) {
    uint32_t bits;
    memcpy(&bits, row + i * sizeof bits, sizeof bits);
    all |= bits;
  }
  if (all & 0xFFFF) search->found = true;
}

void xf_matrix_narrow(const xf_context *context, struct xf_matrix *matrix)
{
  struct search search = {.matrix = matrix};
  if (matrix->type != XF_F32) return;
  xf_parallel(context, matrix->n, search_row, &search);
  if (search.found) return;
  matrix->type = XF_BF16;
  matrix->data = (const char *)matrix->data + sizeof(uint16_t); /* both CPUs are little-endian */
  matrix->step = sizeof(float);
  matrix->gap += (ptrdiff_t)(matrix->k * sizeof(uint16_t));
}
