/* Element types of weights and tensors. */
#ifndef EXACTFLASH_TENSOR_H
#define EXACTFLASH_TENSOR_H

#include "exactflash/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Little-endian IEEE 754 binary32 and binary16, bfloat16 (the upper half of a binary32), signed
 * bytes, and truth values of one byte (0: false). The types behind these are of weights only:
 * blocks of a row as GGUF files have them (ggml's names), and I8_ROW: signed bytes with one f32
 * scale for each row. */
typedef enum xf_type {
  XF_F32 = 1,
  XF_F16,
  XF_BF16,
  XF_I8,
  XF_BOOL,
  XF_I8_ROW,
  XF_Q8_0,
  XF_Q4_0,
  XF_Q4_1,
  XF_Q5_0,
  XF_Q5_1,
  XF_Q4_K,
  XF_Q5_K,
  XF_Q6_K
} xf_type;

/* How the input of a linear layer with 8- or 4-bit weights is taken: as integers of 8 bits with a
 * scale for each block of weights, which is fast and errs a little, or as it is. */
typedef enum xf_activations { XF_ACTIVATIONS_INT8 = 0, XF_ACTIVATIONS_F32 } xf_activations;

/* A borrowed array. Strides are in bytes and may be 0 (broadcast) or negative. data NULL: none. */
typedef struct xf_view {
  const void *data;
  xf_type type;
  uint32_t rank;
  int64_t shape[4];
  int64_t stride[4];
} xf_view;

/* "f32", "f16", "bf16", "i8", "bool", "i8_row", "q8_0" …; "unknown type" for other values. */
XF_API const char *xf_type_name(xf_type type);
/* Bytes of one element; 0 for types of blocks and other values. */
XF_API size_t xf_type_size(xf_type type);
/* Bytes of a row of k weights, without I8_ROW's scale; 0 where k is no multiple of the type's
 * block, and for other values. */
XF_API size_t xf_type_row_bytes(xf_type type, size_t k);

#ifdef __cplusplus
}
#endif
#endif
