#include "kernels/simd/neon.h"

#include "kernels/tile/neon.h"

#include "kernels/table.h"

const struct xf_kernels xf_kernels_neon = XF_TABLE("neon");
