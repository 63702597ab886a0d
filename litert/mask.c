#include "litert/mask.h"

#include <math.h>

enum { STEP = 64 };

static const float HIDES = -1e30f;

/* Whether any of the keys is seen; NaN is. */
static bool sees_any(const float *mask, int64_t n)
{
  int any = 0;
  for (int64_t i = 0; i < n; i++) any |= !(mask[i] <= HIDES);
  return any;
}

static bool all_zero(const float *mask, int64_t n)
{
  int any = 0;
  for (int64_t i = 0; i < n; i++) any |= !(mask[i] == 0);
  return !any;
}

/* One past the last key that a row sees; all where it sees none but has not lost them to −inf: such
 * a row is the mean of V. */
static int64_t row_end(const float *mask, int64_t keys)
{
  int64_t end = keys;
  while (end > 0) {
    int64_t n = end < STEP ? end : STEP;
    if (sees_any(mask + end - n, n)) break;
    end -= n;
  }
  while (end > 0 && mask[end - 1] <= HIDES) end--;
  if (end > 0) return end;
  for (int64_t i = 0; i < keys; i++)
    if (mask[i] != -INFINITY) return keys;
  return 0;
}

struct xf_visible xf_litert_visible(const float *mask, int64_t heads, int64_t head_stride,
                                    int64_t rows, int64_t row_stride, int64_t keys)
{
  struct xf_visible visible = {0, heads == 1, row_end(mask, keys) - 1};
  for (int64_t h = 0; h < heads; h++) {
    for (int64_t r = 0; r < rows; r++) {
      const float *row = mask + h * head_stride + r * row_stride;
      int64_t end = row_end(row, keys);
      if (end > visible.kv_len) visible.kv_len = end;
      visible.causal = visible.causal && end == visible.first + r + 1 && all_zero(row, end);
    }
  }
  visible.causal = visible.causal && visible.first >= 0;
  return visible;
}
