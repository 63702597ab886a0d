/* All of the library's own allocations. */
#ifndef XF_MEMORY_H
#define XF_MEMORY_H

#include <stddef.h>

/* count · size bytes, aligned to 64, uninitialised; NULL when out of memory or on overflow; a
 * pointer that can be freed when count or size is 0. */
void *xf_alloc(size_t count, size_t size);
/* The same, zeroed. */
void *xf_alloc_zeroed(size_t count, size_t size);
void xf_free(void *p); /* NULL is allowed */

/* Zeroed memory in whole pages of the operating system, which become resident as they are touched.
 * NULL when out of memory or on overflow; count and size ≥ 1, and the same again when freed. */
void *xf_map(size_t count, size_t size);
void xf_unmap(void *p, size_t count, size_t size); /* p NULL is allowed */

static inline size_t xf_round_up(size_t n, size_t multiple)
{
  return (n + multiple - 1) / multiple * multiple;
}

static inline size_t xf_min(size_t a, size_t b)
{
  return a < b ? a : b;
}

#endif
