#include "tests/fast_mode.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/compare.h"

static float flushed(float x)
{
  return fabsf(x) < 0x1p-126f ? copysignf(0, x) : x;
}

float fast_rounded(float x)
{
  return from_bf16(to_bf16(flushed(x)));
}

/* fma of bf16 numbers. */
static float fast_step(float x, float w, float sum)
{
  return flushed(fmaf(flushed(fast_rounded(x)), flushed(w), sum));
}

/* "AVX512-BF16" */
static float linear_avx512bf16(size_t k, const float *x, const float *w, size_t stride)
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

/* "AMX-BF16" */
static float linear_amxbf16(size_t k, const float *x, const float *w, size_t stride)
{
  enum { GROUP = 32 };
  float y = 0;
  for (size_t from = 0; from < k; from += GROUP) {
    float chain[2] = {0, 0};
    for (size_t i = from; i < from + GROUP; i++)
      chain[i % 2] = fast_step(i < k ? x[i] : 0, i < k ? w[i * stride] : 0, chain[i % 2]);
    y = flushed(y + flushed(chain[0] + chain[1]));
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

/* ---- where they run ---- */

#ifdef __x86_64__

#include <cpuid.h>

static bool has_avx512bf16(void)
{
  return __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

/* The system must allow the tiles, too: it is asked for those of the ISA. */
static bool has_amxbf16(void)
{
  unsigned eax, ebx, ecx, edx;
  if (!has_avx512bf16() || !__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) return false;
  for (size_t i = 0; i < xf_isa_count; i++)
    if (strcmp(xf_isas[i].kernels->name, "avx512amx") == 0)
      return xf_isas[i].supported() && (edx & 1 << 22);
  return false;
}

static const struct fast_mode modes[] = {{&xf_fast_avx512bf16, linear_avx512bf16, has_avx512bf16},
                                         {&xf_fast_avx512amx, linear_amxbf16, has_amxbf16}};

const struct fast_mode *fast_mode_of(const char *isa)
{
  if (strcmp(isa, "avx512amx") == 0 && has_amxbf16()) return &modes[1];
  const bool gains = has_avx512bf16() && !__builtin_cpu_is("intel");
  return gains && strncmp(isa, "avx512", 6) == 0 ? &modes[0] : NULL;
}

enum { MODES = 2 };

#else

/* None: a place that is never read. */
static const struct fast_mode modes[] = {{NULL, linear_avx512bf16, NULL},
                                         {NULL, linear_amxbf16, NULL}};

const struct fast_mode *fast_mode_of(const char *isa)
{
  (void)isa;
  return NULL;
}

enum { MODES = 0 };

#endif

const struct fast_mode *next_fast_mode(const struct fast_mode *previous)
{
  const struct fast_mode *next = previous ? previous + 1 : modes;
  while (next < modes + MODES && !next->runs()) next++;
  return next < modes + MODES ? next : NULL;
}

void test_required_fast(void **state)
{
  (void)state;
  const char *required = getenv("XF_REQUIRE_FAST");
  size_t found = 0, wanted = required && *required;
  for (const char *at = required; wanted && *at; at++) wanted += *at == ',';
  for (const struct fast_mode *mode = NULL; (mode = next_fast_mode(mode));)
    found += required && strstr(required, mode->kernels->name);
  for (const struct fast_mode *mode = modes; mode < modes + MODES; mode++)
    if (!mode->runs()) print_message("not run, this CPU lacks it: %s\n", mode->kernels->name);
  if (found != wanted) fail_msg("XF_REQUIRE_FAST names %s, of which %zu ran", required, found);
}
