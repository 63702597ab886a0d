#include "kernels/simd/scalar.h"

#include "kernels/tile/scalar.h"

#include "kernels/quant.h"
#include "kernels/table.h"

const struct xf_kernels xf_kernels_scalar = XF_TABLE("scalar", &xf_quant_scalar);
