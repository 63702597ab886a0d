#include "kernels/simd/neon.h"

#include "kernels/tile/neon.h"

#include "kernels/quant.h"
#include "kernels/table.h"

const struct xf_kernels xf_kernels_neon = XF_TABLE("neon", &xf_quant_neon);
const struct xf_kernels xf_kernels_neondot = XF_TABLE("neondot", &xf_quant_neondot);
const struct xf_kernels xf_kernels_neoni8mm = XF_TABLE("neoni8mm", &xf_quant_neoni8mm);
