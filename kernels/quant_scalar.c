#include "kernels/simd/scalar_int.h"

#include "kernels/op/quant.h"

const struct xf_quant_kernels xf_quant_scalar = XF_QUANT_TABLE;
