/* AVX-512 with VNNI, and AMX where there are enough rows. */
#define XF_AMX /* compilers' own names for it differ */

#include "kernels/simd/avx512_int.h"

#include "kernels/op/quant.h"

static void linear(const struct xf_quant_args *a)
{
  const bool tiles = a->rows >= amx_rows(a->type); /* fewer rows leave AMX alone */
  if (tiles) amx_begin(a->type);
  quant_linear(a);
  if (tiles) amx_end();
}

const struct xf_quant_kernels xf_quant_avx512amx = {.quantize = quant_quantize, .linear = linear};
