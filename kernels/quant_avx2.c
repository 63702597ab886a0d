#include "kernels/simd/avx2_int.h"

#include "kernels/op/quant.h"

const struct xf_quant_kernels xf_quant_avx2 = XF_QUANT_TABLE;
