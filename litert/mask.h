/* What an additive mask says of the keys that rows see. */
#ifndef XF_LITERT_MASK_H
#define XF_LITERT_MASK_H

#include <stdbool.h>
#include <stdint.h>

#include "exactflash/tensor.h"

/* The keys before *kv_len are all that a sequence's rows see. */
struct xf_visible {
  int64_t kv_len;
  /* The mask hides nothing but what causality hides: row r sees exactly the keys at 0 … first + r,
   * and kv_len is first + rows. */
  bool causal;
  int64_t first;
};

/* mask: one sequence's f32 [heads, rows, keys], dense in keys, heads and rows ≥ 1. Values of at
 * most −1e30 hide a key as −inf does, unless a row has nothing else. */
struct xf_visible xf_litert_visible(const float *mask, int64_t heads, int64_t head_stride,
                                    int64_t rows, int64_t row_stride, int64_t keys);

#endif
