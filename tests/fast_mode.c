#include "tests/fast_mode.h"

#include <math.h>
#include <stdlib.h>

#include "tests/compare.h"

static float flushed(float x)
{
  return fabsf(x) < 0x1p-126f ? copysignf(0, x) : x;
}

float fast_rounded(float x)
{
  return from_bf16(to_bf16(flushed(x)));
}

static float fast_step(float x, float w, float sum)
{
  return flushed(fmaf(flushed(fast_rounded(x)), flushed(w), sum));
}

float fast_linear(size_t k, const float *x, const float *w, size_t stride)
{
  float y = 0;
  for (size_t from = 0; from < k; from += XF_BLOCK) {
    size_t to = k - from < XF_BLOCK ? k : from + XF_BLOCK;
    float chain = 0;
    for (size_t i = from; i < to; i++) chain = fast_step(x[i], w[i * stride], chain);
    if ((to - from) % 2) chain = fast_step(0, 0, chain);
    y = from == 0 ? chain : y + chain;
  }
  return y;
}

/* Against the layer of unrounded x: beside the error of sums, which oracle_linear bounds, each
 * product has that of x, at most 2⁻⁸ of it, which also makes the sums so much larger; and numbers
 * below 2⁻¹²⁶ count as 0, as do sums. */
struct estimate fast_oracle(size_t k, const float *x, const float *w, size_t stride)
{
  struct estimate exact = oracle_linear(k, x, w, stride);
  double magnitude = 0, lost = 0;
  for (size_t i = 0; i < k; i++) {
    magnitude += fabs((double)x[i] * (double)w[i * stride]);
    lost += 0x1p-126 * (1 + fabs((double)x[i]) + fabs((double)w[i * stride]));
  }
  exact.bound = exact.bound * (1 + 0x1p-8) + 0x1p-8 * magnitude + lost;
  return exact;
}

const struct xf_fast_kernels *fast_kernels(void)
{
#ifdef __x86_64__
  const bool has = __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512bw") &&
                   __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  return has ? &xf_fast_avx512bf16 : NULL;
#else
  return NULL;
#endif
}

bool fast_gains(void)
{
#ifdef __x86_64__
  return fast_kernels() && !__builtin_cpu_is("intel");
#else
  return false;
#endif
}

const struct xf_fast_kernels *need_fast_kernels(void)
{
  const struct xf_fast_kernels *kernels = fast_kernels();
  if (kernels) return kernels;
  print_message("not run, this CPU lacks it: avx512bf16\n");
  const char *required = getenv("XF_REQUIRE_FAST");
  assert_true(!required || !*required);
  skip();
  return NULL;
}
