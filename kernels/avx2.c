#include "kernels/simd/avx2.h"

#include "kernels/tile/avx2.h"

#include "kernels/table.h"

const struct xf_kernels xf_kernels_avx2 = XF_TABLE("avx2");
