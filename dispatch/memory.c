#include "dispatch/memory.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGNMENT = 64 };

void *xf_alloc(size_t count, size_t size)
{
  size_t bytes;
  if (__builtin_mul_overflow(count, size, &bytes) || bytes > SIZE_MAX - ALIGNMENT) return NULL;
  bytes = xf_round_up(bytes ? bytes : 1, ALIGNMENT);
  return aligned_alloc(ALIGNMENT, bytes);
}

void *xf_alloc_zeroed(size_t count, size_t size)
{
  void *p = xf_alloc(count, size);
  if (p) memset(p, 0, count * size);
  return p;
}

void xf_free(void *p)
{
  free(p);
}
