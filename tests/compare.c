#include "tests/compare.h"

#include "tests/oracle.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { POISON = 0xA5, FENCE = 64 };

const char *const fill_names[FILL_KINDS] = {"normal",  "integers", "large", "denormal", "rising",
                                            "falling", "special",  "nan",   "-inf",     "-0"};

const size_t length_classes[] = {0,  1,  7,  8,  15, 16, 17,  31,  32,  33,  47,   48,
                                 49, 63, 64, 65, 80, 96, 127, 511, 512, 513, 1023, 1025};
const size_t n_length_classes = sizeof length_classes / sizeof *length_classes;

static char case_text[500] = "no parameters";

void this_case(const char *format, ...)
{
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(case_text, sizeof case_text, format, arguments);
  va_end(arguments);
}

void expect_true(const char *what, const char *isa, int condition)
{
  if (!condition) fail_msg("%s on %s [%s]", what, isa, case_text);
}

static int same_float(float a, float b)
{
  return (isnan(a) && isnan(b)) || memcmp(&a, &b, sizeof a) == 0;
}

void expect_bits(const char *what, const char *isa, const float *got, const float *want, size_t n)
{
  if (n == 0 || memcmp(got, want, n * sizeof *got) == 0) return;
  for (size_t i = 0; i < n; i++) {
    if (same_float(got[i], want[i])) continue;
    fail_msg("%s on %s: element %zu of %zu is %a, not %a [%s]", what, isa, i, n, (double)got[i],
             (double)want[i], case_text);
  }
}

void expect_near(const char *what, const char *isa, float got, double want, double bound)
{
  double error = fabs((double)got - want);
  if (error <= bound) return;
  fail_msg("%s on %s: %.9g, not %.9g: error %.3g, bound %.3g [%s]", what, isa, (double)got, want,
           error, bound, case_text);
}

size_t scaled(size_t count)
{
  const char *text = getenv("XF_TEST_SCALE");
  size_t percent = text ? (size_t)strtoul(text, NULL, 10) : 100;
  size_t n = count * percent / 100;
  return n ? n : 1;
}

struct arena arena_new(size_t floats)
{
  size_t bytes = (floats + FENCE) * sizeof(float);
  return (struct arena){guarded_new(bytes), bytes};
}

void arena_free(struct arena *arena)
{
  guarded_free(&arena->pages);
}

void *arena_cut(struct arena *arena, size_t n, size_t size, size_t shift)
{
  size_t used = (n + shift) * size, poisoned = used + FENCE * size;
  assert_true(used <= arena->bytes);
  if (poisoned > arena->bytes) poisoned = arena->bytes;
  char *end = (char *)arena->pages.data + arena->bytes;
  memset(end - poisoned, POISON, poisoned);
  return end - used;
}

float *arena_floats(struct arena *arena, size_t n, size_t shift)
{
  return arena_cut(arena, n, sizeof(float), shift);
}

float *arena_copy(struct arena *arena, size_t n, size_t shift, const float *from)
{
  float *to = arena_floats(arena, n, shift);
  if (n) memcpy(to, from, n * sizeof *to);
  return to;
}

static int is_poison(const char *from, const char *to)
{
  for (; from < to; from++) {
    if ((unsigned char)*from != POISON) return 0;
  }
  return 1;
}

void expect_poison(const char *what, const char *isa, const float *at, size_t n)
{
  if (!is_poison((const char *)at, (const char *)(at + n)))
    fail_msg("%s on %s: written outside of its contract [%s]", what, isa, case_text);
}

void arena_expect_untouched(const struct arena *arena, const char *isa, const float *cut, size_t n)
{
  const char *start = arena->pages.data, *end = start + arena->bytes;
  const char *before = (const char *)cut - FENCE * sizeof(float);
  if (!is_poison(before < start ? start : before, (const char *)cut))
    fail_msg("%s wrote in front of its output [%s]", isa, case_text);
  if (!is_poison((const char *)(cut + n), end))
    fail_msg("%s wrote behind its output [%s]", isa, case_text);
}

static float special_float(struct rng *rng)
{
  static const float values[] = {
      NAN,        -NAN,      INFINITY,        -INFINITY,        0.0f, -0.0f, 0x1p-149f,
      -0x1p-149f, 0x1p-126f, 0x1.fffffep127f, -0x1.fffffep127f, 1.0f, -1.0f};
  size_t n = sizeof values / sizeof *values;
  size_t pick = rng_below(rng, 4 * n);
  return pick < n ? values[pick] : rng_normal(rng);
}

static float fill_one(struct rng *rng, enum fill fill, size_t i, size_t n)
{
  switch (fill) {
  case FILL_SMALL_INTEGERS: return (float)rng_below(rng, 17) - 8;
  case FILL_LARGE: return 1e4f * rng_uniform(rng);
  case FILL_DENORMAL: return 0x1p-126f * rng_uniform(rng);
  case FILL_RISING: return ((float)i - (float)n / 2) * 0.05f + 0.01f * rng_uniform(rng);
  case FILL_FALLING: return ((float)n / 2 - (float)i) * 0.05f + 0.01f * rng_uniform(rng);
  case FILL_SPECIAL: return special_float(rng);
  case FILL_NAN: return NAN;
  case FILL_MINUS_INFINITY: return -INFINITY;
  case FILL_MINUS_ZERO: return -0.0f;
  default: return 2 * rng_uniform(rng);
  }
}

void fill_array(struct rng *rng, enum fill fill, size_t n, float *out)
{
  for (size_t i = 0; i < n; i++) out[i] = fill_one(rng, fill, i, n);
}

uint16_t to_bf16(float x)
{
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  if (isnan(x)) return (uint16_t)(bits >> 16 | 0x40);
  return (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

float from_bf16(uint16_t bits)
{
  uint32_t wide = (uint32_t)bits << 16;
  float x;
  memcpy(&x, &wide, sizeof x);
  return x;
}

uint16_t to_f16(float x)
{
  uint16_t sign = signbit(x) ? 0x8000 : 0;
  if (isnan(x)) return sign | 0x7E00;
  double magnitude = fabs((double)x);
  if (magnitude >= 65520) return sign | 0x7C00;
  if (magnitude < 0x1p-14) return sign | (uint16_t)nearbyint(magnitude * 0x1p24);
  int exponent;
  double fraction = frexp(magnitude, &exponent); /* [0.5, 1) */
  /* The carry of a fraction that rounds to 2048 goes into the exponent, as it should. */
  return sign | (uint16_t)(((exponent + 13) << 10) + (int)nearbyint(fraction * 2048));
}

float from_f16(uint16_t bits)
{
  int exponent = bits >> 10 & 31, fraction = bits & 1023;
  float magnitude;
  if (exponent == 31)
    magnitude = fraction ? NAN : INFINITY;
  else if (exponent == 0)
    magnitude = ldexpf((float)fraction, -24);
  else
    magnitude = ldexpf((float)(1024 + fraction), exponent - 25);
  return bits & 0x8000 ? -magnitude : magnitude;
}

float rounded_to(xf_type type, float x)
{
  return type == XF_F32 ? x : type == XF_F16 ? from_f16(to_f16(x)) : from_bf16(to_bf16(x));
}

static void round_row_to_bytes(size_t d, float *x)
{
  int8_t q[256];
  float scale = numerics_quantize(d, x, q);
  for (size_t i = 0; i < d; i++) x[i] = (float)q[i] * scale;
}

void round_rows(xf_type type, size_t rows, size_t d, float *x)
{
  for (size_t i = 0; i < rows && type == XF_I8; i++) round_row_to_bytes(d, x + i * d);
  for (size_t i = 0; i < rows * d && type != XF_I8; i++) x[i] = rounded_to(type, x[i]);
}

void put_as(xf_type type, float x, void *at)
{
  uint16_t half = type == XF_F16 ? to_f16(x) : to_bf16(x);
  if (type == XF_F32)
    memcpy(at, &x, sizeof x);
  else
    memcpy(at, &half, sizeof half);
}
