#include "tests/failing_alloc.h"

#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

#include "tests/model_support.h"
#include "tests/support.h"

/* The linker's --wrap gives these their names: calls of aligned_alloc and xf_map go to the first of
 * each pair, and the second is the C library's (or the sanitizer's), or ours. */
void *__wrap_aligned_alloc(size_t alignment, size_t bytes);
void *__real_aligned_alloc(size_t alignment, size_t bytes);
void *__wrap_xf_map(size_t count, size_t size);
void *__real_xf_map(size_t count, size_t size);

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

bool failing_alloc_failed(xf_status status, xf_error *error)
{
  if (failing_alloc_off() == 0) {
    expect_ok(status, error);
    return false;
  }
  expect_status(status, XF_E_MEMORY, error);
  return true;
}

size_t failing_alloc_open(const xf_context *context, const char *path)
{
  xf_error error = {0};
  xf_model *model = NULL;
  for (size_t n = 0;; n++) {
    failing_alloc_after(n);
    xf_status status = xf_model_open(context, path, NULL, &model, &error);
    if (status) assert_non_null(strstr(error.message, "out of memory"));
    if (!failing_alloc_failed(status, &error)) {
      xf_model_close(model);
      return n;
    }
    assert_null(model);
  }
}

size_t failing_alloc_largest(void)
{
  return atomic_exchange(&largest, 0);
}

/* Counts a request; false where it is to fail. */
static bool allows(size_t bytes)
{
  size_t before = atomic_load(&largest);
  while (bytes > before && !atomic_compare_exchange_weak(&largest, &before, bytes)) continue;
  return atomic_fetch_add(&calls, 1) < atomic_load(&allowed);
}

void *__wrap_aligned_alloc(size_t alignment, size_t bytes)
{
  return allows(bytes) ? __real_aligned_alloc(alignment, bytes) : NULL;
}

void *__wrap_xf_map(size_t count, size_t size)
{
  return allows(count * size) ? __real_xf_map(count, size) : NULL;
}
