#include "kernels/simd/avx512_int.h"

#include "kernels/op/quant.h"

const struct xf_quant_kernels xf_quant_avx512vnni = XF_QUANT_TABLE;
