#include "kernels/simd/avx2.h"

#include "kernels/tile/avx2.h"

#include "kernels/quant.h"
#include "kernels/table.h"

const struct xf_kernels xf_kernels_avx2 = XF_TABLE("avx2", &xf_quant_avx2);
const struct xf_kernels xf_kernels_avx2vnni = XF_TABLE("avx2vnni", &xf_quant_avx2vnni);
