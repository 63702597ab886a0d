#include "model/ggml_type.h"

/* A type becomes loadable by naming its xf_type here. */
static const struct xf_ggml_type types[] = {{0, "F32", 1, 4, XF_F32},
                                            {1, "F16", 1, 2, XF_F16},
                                            {30, "BF16", 1, 2, XF_BF16},
                                            {2, "Q4_0", 32, 18, XF_Q4_0},
                                            {3, "Q4_1", 32, 20, XF_Q4_1},
                                            {6, "Q5_0", 32, 22, XF_Q5_0},
                                            {7, "Q5_1", 32, 24, XF_Q5_1},
                                            {8, "Q8_0", 32, 34, XF_Q8_0},
                                            {9, "Q8_1", 32, 36, 0},
                                            {10, "Q2_K", 256, 84, 0},
                                            {11, "Q3_K", 256, 110, 0},
                                            {12, "Q4_K", 256, 144, XF_Q4_K},
                                            {13, "Q5_K", 256, 176, XF_Q5_K},
                                            {14, "Q6_K", 256, 210, XF_Q6_K},
                                            {15, "Q8_K", 256, 292, 0},
                                            {16, "IQ2_XXS", 256, 66, 0},
                                            {17, "IQ2_XS", 256, 74, 0},
                                            {18, "IQ3_XXS", 256, 98, 0},
                                            {19, "IQ1_S", 256, 50, 0},
                                            {20, "IQ4_NL", 32, 18, 0},
                                            {21, "IQ3_S", 256, 110, 0},
                                            {22, "IQ2_S", 256, 82, 0},
                                            {23, "IQ4_XS", 256, 136, 0},
                                            {29, "IQ1_M", 256, 56, 0},
                                            {34, "TQ1_0", 256, 54, 0},
                                            {35, "TQ2_0", 256, 66, 0},
                                            {39, "MXFP4", 32, 17, 0},
                                            {24, "I8", 1, 1, XF_I8},
                                            {25, "I16", 1, 2, 0},
                                            {26, "I32", 1, 4, 0},
                                            {27, "I64", 1, 8, 0},
                                            {28, "F64", 1, 8, 0}};

enum { TYPES = sizeof types / sizeof *types };

const struct xf_ggml_type *xf_ggml_type_find(uint32_t id)
{
  for (size_t i = 0; i < TYPES; i++)
    if (types[i].id == id) return &types[i];
  return NULL;
}

const struct xf_ggml_type *xf_ggml_type_of(xf_type type)
{
  if (type == XF_I8_ROW) type = XF_I8;
  for (size_t i = 0; i < TYPES; i++)
    if (types[i].type == type) return &types[i];
  return NULL;
}
