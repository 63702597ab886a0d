#include "tests/failing_alloc.h"

#include <stdatomic.h>
#include <stdint.h>

/* The linker's --wrap gives these two their names: calls of aligned_alloc go to the first, and the
 * second is the C library's (or the sanitizer's). */
void *__wrap_aligned_alloc(size_t alignment, size_t bytes);
void *__real_aligned_alloc(size_t alignment, size_t bytes);

static atomic_size_t calls, allowed = SIZE_MAX, largest;

void failing_alloc_after(size_t n)
{
  atomic_store(&calls, 0);
  atomic_store(&allowed, n);
}

size_t failing_alloc_off(void)
{
  size_t limit = atomic_exchange(&allowed, SIZE_MAX), made = atomic_load(&calls);
  return made > limit ? made - limit : 0;
}

size_t failing_alloc_largest(void)
{
  return atomic_exchange(&largest, 0);
}

void *__wrap_aligned_alloc(size_t alignment, size_t bytes)
{
  size_t before = atomic_load(&largest);
  while (bytes > before && !atomic_compare_exchange_weak(&largest, &before, bytes)) continue;
  if (atomic_fetch_add(&calls, 1) >= atomic_load(&allowed)) return NULL;
  return __real_aligned_alloc(alignment, bytes);
}
