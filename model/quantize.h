/* Weights into the types of files. Plain C on floats, each operation rounded to nearest even, no
 * FMA: the same bytes on every machine. The block layouts are ggml's:
 * https://github.com/ggml-org/ggml/blob/master/src/ggml-common.h */
#ifndef XF_MODEL_QUANTIZE_H
#define XF_MODEL_QUANTIZE_H

#include <stdbool.h>
#include <stddef.h>

#include "exactflash/tensor.h"

struct xf_quantizer {
  xf_type type;
  uint32_t file_type; /* what general.file_type calls a model of it; XF_NO_FILE_TYPE: nothing */
  size_t block;       /* a row is a multiple of it */
  size_t block_bytes;
  /* One row of k finite weights: k / block · block_bytes bytes at out, which may be unaligned.
   * scale: of the row, where the type has one beside its bytes. false: a weight is beyond the type.
   */
  bool (*row)(size_t k, const float *x, unsigned char *out, float *scale);
};

enum { XF_NO_FILE_TYPE = 1024 }; /* llama.cpp's "guessed" */

/* NULL where nothing is quantized to that type. */
const struct xf_quantizer *xf_quantizer_find(xf_type type);

/* The l of a block that is x ≈ d · l with whole l in −range … range − 1, by trial of several d;
 * returns the d of the least squared error, 0 where x is 0. n ≤ 32. */
float xf_fit_scale(size_t n, const float *x, int range, int *l);

bool xf_quantize_q4_k(size_t k, const float *x, unsigned char *out, float *scale);
bool xf_quantize_q6_k(size_t k, const float *x, unsigned char *out, float *scale);

#endif
