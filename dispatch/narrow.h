/* Floats rounded to types of 16 bits: to nearest, ties to even; beyond the type's range infinity; a
 * NaN stays one. Arithmetic on bits: the caller's rounding mode and flush-to-zero do not matter. */
#ifndef XF_NARROW_H
#define XF_NARROW_H

#include <stddef.h>

#include "exactflash/tensor.h"

/* *rounded: its value. */
uint16_t xf_round_f16(float x, float *rounded);
uint16_t xf_round_bf16(float x);

/* y[i · step] = x[i]; type is XF_F32 (copied), XF_F16 or XF_BF16. */
void xf_narrow(xf_type type, size_t n, const float *x, size_t step, void *y);

#endif
