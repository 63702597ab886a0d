/* The exponential inside softmax, E(x) of numerics 1: within EXP2_ULP of the true 2^x, 0 from
 * −126.5 down, the same bits on every ISA and in both kernels that use it. Without an argument over
 * a dense sample of [−127, 0]; `test_exp2 --all` takes every float of it. */
#include <math.h>
#include <sleef.h>
#include <stdlib.h>
#include <string.h>

#include "tests/compare.h"
#include "tests/isas.h"
#include "tests/oracle.h"

/* Bit patterns of −0 … −127. */
static const uint32_t first_pattern = 0x80000000, last_pattern = 0xC2FE0000;
static uint32_t pattern_step = 127;

/* What docs/numerics.md states. */
#define EXP2_ULP 1.0145

enum { CHUNK = 4080, PANEL_KEYS = 15 }; /* 4080 = 272 · 15 */

static float float_of(uint32_t bits)
{
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

/* p = E(x) by the softmax kernel: with c = 1 and a greatest element of 0 it adds nothing else. */
static void by_softmax(const struct xf_kernels *k, const float *x, float *p)
{
  static float all[CHUNK + 1], out[CHUNK + 1];
  memcpy(all, x, CHUNK * sizeof *x);
  all[CHUNK] = 0;
  k->softmax(CHUNK + 1, all, 1, out);
  memcpy(p, out, CHUNK * sizeof *p);
}

/* p = E(x) by the attention kernel, 15 keys at a time and one of score 0: values are a unit matrix.
 */
static void by_attention(const struct xf_kernels *k, const float *x, float *p)
{
  static float unit[XF_LANES * XF_LANES];
  for (size_t i = 0; i < XF_LANES; i++) unit[i * XF_LANES + i] = 1;
  for (size_t i = 0; i < CHUNK; i += PANEL_KEYS) {
    float keys[XF_LANES] = {0}, q = 1, s[XF_LANES], m, l, acc[XF_LANES];
    memcpy(keys, x + i, PANEL_KEYS * sizeof *keys);
    const size_t visible = XF_LANES;
    const void *k_panel = keys, *v_panel = unit;
    struct xf_attention_args a = {.type = XF_F32,
                                  .rows = 1,
                                  .d_k = 1,
                                  .d_v = XF_LANES,
                                  .q = &q,
                                  .visible = &visible,
                                  .k = &k_panel,
                                  .v = &v_panel,
                                  .v_stride = XF_LANES,
                                  .c = 1,
                                  .s = s,
                                  .lds = XF_LANES,
                                  .m = &m,
                                  .l = &l,
                                  .acc = acc};
    k->attention_block(&a);
    memcpy(p + i, acc, PANEL_KEYS * sizeof *p);
  }
}

static double ulp_of(double y)
{
  int exponent;
  frexp(y, &exponent);
  return ldexp(1, exponent - 24 > -149 ? exponent - 24 : -149);
}

/* The greatest error in ULP, of all patterns but those that are flushed. */
static double worst_error(const float *x, const float *p)
{
  double worst = 0;
  for (size_t i = 0; i < CHUNK; i++) {
    if (x[i] <= -126.5f) {
      this_case("x %a", (double)x[i]);
      expect_near("flushed to +0", "scalar", p[i], 0, 0);
      continue;
    }
    double y = Sleef_exp2_u10((double)x[i]), error = fabs((double)p[i] - y) / ulp_of(y);
    worst = error > worst ? error : worst;
  }
  return worst;
}

static void test_range(void **state)
{
  (void)state;
  static float x[CHUNK], want[CHUNK], got[CHUNK];
  double worst = 0;
  for (uint64_t bits = first_pattern; bits <= last_pattern;) {
    this_case("patterns from %#llx", (unsigned long long)bits);
    for (size_t i = 0; i < CHUNK; i++, bits += pattern_step)
      x[i] = float_of(bits < last_pattern ? (uint32_t)bits : last_pattern);
    by_softmax(&xf_kernels_scalar, x, want);
    for (const struct xf_kernels *k = NULL; (k = next_isa(k));) {
      by_softmax(k, x, got);
      expect_bits("E in softmax", k->name, got, want, CHUNK);
      by_attention(k, x, got);
      expect_bits("E in attention_block", k->name, got, want, CHUNK);
    }
    double error = worst_error(x, want);
    worst = error > worst ? error : worst;
  }
  print_message("greatest error: %.5f ULP\n", worst);
  if (!(worst <= EXP2_ULP)) fail_msg("E errs by %.5f ULP, more than %g", worst, EXP2_ULP);
}

static void test_edges(void **state)
{
  (void)state;
  static const float edges[] = {0,       -0.0f,    -0.5f,           -1,         -126,     -126.4f,
                                -126.5f, -126.51f, -0x1.fa0002p+6f, -127,       -127.5f,  -128,
                                -200,    -1e30f,   -INFINITY,       -0x1p-149f, -0x1p-24f};
  static float x[CHUNK], got[CHUNK];
  size_t n = sizeof edges / sizeof *edges;
  memcpy(x, edges, sizeof edges);
  for (const struct xf_kernels *k = NULL; (k = next_isa(k));) {
    by_softmax(k, x, got);
    for (size_t i = 0; i < n; i++) {
      float want = numerics_exp2(edges[i]);
      this_case("x %a", (double)edges[i]);
      expect_bits("E, against numerics.md", k->name, &got[i], &want, 1);
      if (edges[i] <= -126.5f) expect_near("flushed to +0", k->name, got[i], 0, 0);
      if (edges[i] == 0) expect_near("E(0)", k->name, got[i], 1, 0);
    }
    x[0] = NAN;
    by_softmax(k, x, got);
    expect_true("NaN stays NaN", k->name, isnan(got[0]) && got[1] == 1);
    x[0] = edges[0];
  }
}

int main(int argc, char **argv)
{
  pattern_step = (uint32_t)(127 * 100 / scaled(100));
  if (argc > 1 && strcmp(argv[1], "--all") == 0) pattern_step = 1;
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_range), cmocka_unit_test(test_edges),
                                     cmocka_unit_test(test_required_isas)};
  return cmocka_run_group_tests_name("exp2", tests, NULL, NULL);
}
