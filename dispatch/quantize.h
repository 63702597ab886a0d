/* Weights into the types of files. Plain C on floats, each operation rounded to nearest even, no
 * FMA: the same bytes on every machine. The block layouts are ggml's:
 * https://github.com/ggml-org/ggml/blob/master/src/ggml-common.h */
#ifndef XF_DISPATCH_QUANTIZE_H
#define XF_DISPATCH_QUANTIZE_H

#include <stdbool.h>
#include <stddef.h>

#include "exactflash/tensor.h"

/* Whether weights can become that type. */
bool xf_can_quantize(xf_type type);
/* One row of k weights, whole blocks: xf_type_row_bytes(type, k) bytes at out, which may be
 * unaligned. scale: of the row, written for I8_ROW alone. false: a weight is not finite, or beyond
 * the type. */
bool xf_quantize_row(xf_type type, size_t k, const float *x, unsigned char *out, float *scale);

/* The l of a block that is x ≈ d · l with whole l in −range … range − 1, by trial of several d;
 * returns the d of the least squared error, 0 where x is 0. n ≤ 32. */
float xf_fit_scale(size_t n, const float *x, int range, int *l);

/* As xf_quantize_row, of finite weights. */
bool xf_quantize_q4_k(size_t k, const float *x, unsigned char *out, float *scale);
bool xf_quantize_q5_k(size_t k, const float *x, unsigned char *out, float *scale);
bool xf_quantize_q6_k(size_t k, const float *x, unsigned char *out, float *scale);

#endif
