/* Fast mode for tests: docs/numerics.md, "Fast mode", one element at a time, and where it can run.
 */
#ifndef XF_TESTS_FAST_MODE_H
#define XF_TESTS_FAST_MODE_H

#include "dispatch/isa.h"
#include "tests/oracle.h"

/* x as a fast kernel takes it. */
float fast_rounded(float x);
/* One output of a linear layer; w[i · stride], exact in bf16. */
float fast_linear(size_t k, const float *x, const float *w, size_t stride);
/* The same of unrounded numbers in double precision. */
struct estimate fast_oracle(size_t k, const float *x, const float *w, size_t stride);

/* NULL where the CPU has none. A context may have none all the same: xf_isa_fast. */
const struct xf_fast_kernels *fast_kernels(void);
/* Whether contexts should use them: Intel's are slower than f32. */
bool fast_gains(void);
/* The same, but skips the running test, by name, where there are none; with XF_REQUIRE_FAST=1 it
 * fails. */
const struct xf_fast_kernels *need_fast_kernels(void);

#endif
