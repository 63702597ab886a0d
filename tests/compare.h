/* Comparing what kernels give: bits, bounds, guarded arrays, and the parameters of a failing case.
 */
#ifndef XF_TESTS_COMPARE_H
#define XF_TESTS_COMPARE_H

#include "exactflash/tensor.h"
#include "tests/support.h"

/* The parameters of the case that runs (printf); every failure below prints them. */
__attribute__((format(printf, 1, 2))) void this_case(const char *format, ...);

/* Equal bits, except that any NaN equals any NaN: payloads are outside the promise. */
void expect_bits(const char *what, const char *isa, const float *got, const float *want, size_t n);
/* |got − want| ≤ bound. */
void expect_near(const char *what, const char *isa, float got, double want, double bound);
void expect_true(const char *what, const char *isa, int condition);

/* count, or less where XF_TEST_SCALE (percent) asks for shorter tests, as under an emulator. */
size_t scaled(size_t count);

/* Memory that ends at a guard page, from whose end arrays of any length are cut. */
struct arena {
  struct guarded pages;
  size_t bytes;
};
struct arena arena_new(size_t floats);
void arena_free(struct arena *arena);
/* n elements of `size` bytes, ending at the guard page, or `shift` elements in front of it (so that
 * whole vectors are misaligned too). They and 64 elements before them are poisoned. */
void *arena_cut(struct arena *arena, size_t n, size_t size, size_t shift);
float *arena_floats(struct arena *arena, size_t n, size_t shift);
/* A copy of n floats there. */
float *arena_copy(struct arena *arena, size_t n, size_t shift, const float *from);
/* Fails unless everything around the n floats that were cut last is still poison. */
void arena_expect_untouched(const struct arena *arena, const char *isa, const float *cut, size_t n);
/* Fails unless these n floats are still poison. */
void expect_poison(const char *what, const char *isa, const float *at, size_t n);

/* Kinds of data. */
enum fill {
  FILL_NORMAL,
  FILL_SMALL_INTEGERS, /* sums of products are exact */
  FILL_LARGE,          /* ±1e4 */
  FILL_DENORMAL,
  FILL_RISING,
  FILL_FALLING,
  FILL_SPECIAL, /* NaN, ±Inf, ±0, denormals and the greatest floats among ordinary numbers */
  FILL_NAN,
  FILL_MINUS_INFINITY,
  FILL_MINUS_ZERO,
  FILL_KINDS
};
extern const char *const fill_names[FILL_KINDS];
void fill_array(struct rng *rng, enum fill fill, size_t n, float *out);

/* Lengths at which vector code changes its way. */
extern const size_t length_classes[];
extern const size_t n_length_classes;

/* float → bf16 and f16 bits, round to nearest even. */
uint16_t to_bf16(float x);
uint16_t to_f16(float x);
/* And back, exactly, by arithmetic. */
float from_bf16(uint16_t bits);
float from_f16(uint16_t bits);
/* The value that x has in XF_F32, XF_F16 or XF_BF16. */
float rounded_to(xf_type type, float x);
/* Rows of d numbers, d ≤ 256, become what they are in one of these or in XF_I8, which has a scale
 * for each row. */
void round_rows(xf_type type, size_t rows, size_t d, float *x);
/* Writes x as XF_F32, XF_F16 or XF_BF16. */
void put_as(xf_type type, float x, void *at);

#endif
