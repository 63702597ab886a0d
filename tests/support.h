/* What the tests share: fixtures, random numbers, guarded buffers, temporary folders. */
#ifndef XF_TESTS_SUPPORT_H
#define XF_TESTS_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* Path of a fixture, in a static buffer: XF_FIXTURES, else ../shared/fixtures beside the source
 * tree. Without such a folder the running test is skipped by name; a file missing in an existing
 * folder fails it. */
const char *fixture(const char *relative);
/* Path inside the source tree (a static buffer): source_path("demo-model"). */
const char *source_path(const char *relative);

/* Reads a whole file (malloc, one NUL byte behind it); fails the test if it cannot. */
unsigned char *read_file(const char *path, size_t *bytes);
void write_file(const char *path, const void *data, size_t bytes);
/* A new empty folder, removed with all it holds when the program ends; malloc. */
char *temporary_folder(void);

/* SplitMix64 (Steele et al. 2014). */
struct rng {
  uint64_t state;
};
uint64_t rng_next(struct rng *rng);
size_t rng_below(struct rng *rng, size_t n); /* uniform in [0, n) */
float rng_uniform(struct rng *rng);          /* [−1, 1) */
float rng_normal(struct rng *rng);           /* mean 0, deviation 1 */
void fill_normal(struct rng *rng, size_t n, float *out);

/* A buffer that ends at a page that cannot be touched, and starts behind one: `bytes` bytes whose
 * end is the guard, filled with 0xA5. */
struct guarded {
  void *data;
  void *mapping;
  size_t mapped;
};
struct guarded guarded_new(size_t bytes);
void guarded_free(struct guarded *buffer);

#endif
