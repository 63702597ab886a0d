#include "kernels/simd/avx512.h"

#include "kernels/tile/avx512.h"

#include "kernels/quant.h"
#include "kernels/table.h"

const struct xf_kernels xf_kernels_avx512 = XF_TABLE("avx512", &xf_quant_avx512);
const struct xf_kernels xf_kernels_avx512vnni = XF_TABLE("avx512vnni", &xf_quant_avx512vnni);
const struct xf_kernels xf_kernels_avx512amx = XF_TABLE("avx512amx", &xf_quant_avx512amx);
