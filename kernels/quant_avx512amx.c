/* AMX for rows by sixteens, VNNI for what is left of them. */
#include "kernels/op/amx.h"

/* [first, first + rows) of a's rows. */
static struct xf_quant_args rows_of(const struct xf_quant_args *a, size_t first, size_t rows)
{
  struct xf_quant_args some = *a;
  some.rows = rows;
  some.x = xf_quant_rows_from(a->x, a->k, xf_quant_format_of(a->type).block, first);
  some.y += first * a->ldy;
  return some;
}

static void by_amx(const struct xf_quant_args *a)
{
  const size_t turns = (a->rows * xf_quant_ldq(a->k) + AMX_NEAR_BYTES - 1) / AMX_NEAR_BYTES,
               most = (a->rows / turns + AMX_ROWS - 1) / AMX_ROWS * AMX_ROWS;
  const bool chunks = xf_quant_format_of(a->type).block == XF_QUANT_CHUNK;
  const struct amx_shapes before = amx_shapes_now(),
                          shapes = amx_shapes_of(AMX_ROWS, chunks ? XF_QUANT_CHUNK : AMX_STEP);
  amx_configure(&shapes);
  for (size_t r = 0; r < a->rows; r += most) {
    const struct xf_quant_args some = rows_of(a, r, a->rows - r < most ? a->rows - r : most);
    amx_linear(&some);
  }
  amx_configure(&before);
}

static void linear(const struct xf_quant_args *a)
{
  const size_t rest = a->rows % AMX_HALF, tall = a->rows - rest;
  const struct xf_quant_args first = rows_of(a, 0, tall), last = rows_of(a, tall, rest);
  if (tall) by_amx(&first);
  if (rest) xf_quant_avx512vnni.linear(&last);
}

static void quantize(size_t k, size_t group, const float *x, struct xf_quant_rows row)
{
  xf_quant_avx512vnni.quantize(k, group, x, row);
}

const struct xf_quant_kernels xf_quant_avx512amx = {.quantize = quantize, .linear = linear};
