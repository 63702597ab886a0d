#include "kernels/simd/avx512.h"

#include "kernels/tile/avx512.h"

#include "kernels/table.h"

const struct xf_kernels xf_kernels_avx512 = XF_TABLE("avx512");
