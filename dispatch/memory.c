#include "dispatch/memory.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

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

void *xf_map(size_t count, size_t size)
{
  size_t bytes;
  if (__builtin_mul_overflow(count, size, &bytes)) return NULL;
  void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return p == MAP_FAILED ? NULL : p;
}

void xf_unmap(void *p, size_t count, size_t size)
{
  if (p) munmap(p, count * size);
}
