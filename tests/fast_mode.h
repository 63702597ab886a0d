/* Fast mode for tests: docs/numerics.md, "Fast mode", one element at a time, and where it can run.
 */
#ifndef XF_TESTS_FAST_MODE_H
#define XF_TESTS_FAST_MODE_H

#include "dispatch/isa.h"
#include "tests/oracle.h"

/* x as a fast kernel takes it. */
float fast_rounded(float x);
/* An output of a linear layer (w[i · stride], exact in bf16) of unrounded numbers in double
 * precision. */
struct estimate fast_oracle(size_t k, const float *x, const float *w, size_t stride);

/* Instructions that fast mode has kernels for. */
struct fast_mode {
  const struct xf_fast_kernels *kernels;
  /* One output; w[i · stride], exact in bf16. */
  float (*linear)(size_t k, const float *x, const float *w, size_t stride);
  bool (*runs)(void); /* here */
};

/* Walks those that this machine can run. A context may do without them: fast_mode_of.
 *   for (const struct fast_mode *m = NULL; (m = next_fast_mode(m));) … */
const struct fast_mode *next_fast_mode(const struct fast_mode *previous);
/* What a context of an ISA should use: what is faster than floats. NULL: nothing. */
const struct fast_mode *fast_mode_of(const char *isa);
/* The last test of programs that walk them. Names those that this machine lacks, and fails when one
 * that XF_REQUIRE_FAST (a comma list) names does not run. */
void test_required_fast(void **state);

#endif
