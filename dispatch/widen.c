#include "dispatch/widen.h"

#include <stdalign.h>
#include <string.h>

#include "dispatch/memory.h"

void xf_widen(const struct xf_kernels *kernels, xf_type type, size_t n, const void *x, float *y)
{
  if (type == XF_F32) {
    memcpy(y, x, n * sizeof *y);
    return;
  }
  void (*widen)(size_t n, const uint16_t *x, float *y) =
      type == XF_F16 ? kernels->widen_f16 : kernels->widen_bf16;
  if ((uintptr_t)x % alignof(uint16_t) == 0) {
    widen(n, x, y);
    return;
  }
  uint16_t aligned[XF_BLOCK];
  for (size_t i = 0; i < n; i += XF_BLOCK) {
    size_t count = xf_min(XF_BLOCK, n - i);
    memcpy(aligned, (const char *)x + i * sizeof *aligned, count * sizeof *aligned);
    widen(count, aligned, y + i);
  }
}

void xf_widen_row(const struct xf_kernels *kernels, xf_type type, size_t n, const void *x,
                  float scale, float *y)
{
  if (type == XF_I8)
    kernels->widen_i8(n, x, scale, y);
  else
    xf_widen(kernels, type, n, x, y);
}
