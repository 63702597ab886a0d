/* AMX for rows by sixteens, VNNI for what is left of them. */
#include "kernels/op/amx.h"

static void linear(const struct xf_quant_args *a)
{
  const struct xf_quant_format f = xf_quant_format_of(a->type);
  struct xf_quant_args tall = *a, rest = *a;
  rest.rows = a->rows % AMX_HALF;
  tall.rows -= rest.rows;
  if (tall.rows) {
    const struct amx_shapes before = amx_shapes_now(),
                            shapes = amx_shapes_of(f.block == XF_QUANT_CHUNK ? f.block : AMX_STEP);
    amx_configure(&shapes);
    amx_linear(&tall);
    amx_configure(&before);
  }
  if (rest.rows == 0) return;
  const size_t groups = f.block ? a->k / f.block : 1;
  rest.x.q += tall.rows * xf_quant_ldq(a->k);
  rest.x.d += tall.rows * groups;
  rest.x.sums += tall.rows * (xf_quant_k(a->k) / XF_LANES);
  rest.x.totals += tall.rows;
  rest.y += tall.rows * a->ldy;
  xf_quant_avx512vnni.linear(&rest);
}

static void quantize(size_t k, size_t group, const float *x, struct xf_quant_rows row)
{
  xf_quant_avx512vnni.quantize(k, group, x, row);
}

const struct xf_quant_kernels xf_quant_avx512amx = {.quantize = quantize, .linear = linear};
