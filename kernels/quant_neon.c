#include "kernels/simd/neon_dot.h"

#include "kernels/op/quant.h"

const struct xf_quant_kernels xf_quant_neon = XF_QUANT_TABLE;
