/* Element types of weights and tensors. */
#ifndef EXACTFLASH_TENSOR_H
#define EXACTFLASH_TENSOR_H

#include "exactflash/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Little-endian IEEE 754 binary32 and binary16, and bfloat16 (the upper half of a binary32). */
typedef enum xf_type { XF_F32 = 1, XF_F16, XF_BF16 } xf_type;

/* "f32", "f16", "bf16"; "unknown type" for other values. */
XF_API const char *xf_type_name(xf_type type);
/* Bytes of one element; 0 for other values. */
XF_API size_t xf_type_size(xf_type type);

#ifdef __cplusplus
}
#endif
#endif
