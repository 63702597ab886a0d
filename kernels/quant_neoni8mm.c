#include "kernels/simd/neon_i8mm.h"

#include "kernels/op/quant.h"

const struct xf_quant_kernels xf_quant_neoni8mm = XF_QUANT_TABLE;
