/* Rounding to types of 16 bits, in any rounding mode of the caller. */
#include "dispatch/narrow.h"

#include <fenv.h>
#include <math.h>
#include <string.h>

#include "tests/compare.h"

static uint16_t narrow(xf_type type, float x)
{
  uint16_t half;
  xf_narrow(type, 1, &x, 1, &half);
  return half;
}

static void check(xf_type type, float x)
{
  static const int modes[] = {FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO};
  uint16_t want = type == XF_F16 ? to_f16(x) : to_bf16(x), got = narrow(type, x);
  for (int i = 0; i < 3 && got == want; i++) {
    fesetround(modes[i]);
    got = narrow(type, x);
    fesetround(FE_TONEAREST);
  }
  if (got != want) fail_msg("%s of %a is %#x, not %#x", xf_type_name(type), (double)x, got, want);
  if (type == XF_BF16) return;
  float rounded, widened = from_f16(got);
  assert_int_equal(xf_round_f16(x, &rounded), got);
  expect_bits("the rounded value", "any", &rounded, &widened, 1);
}

/* Every number of 16 bits, the middles between neighbours, and the floats around both. */
static void test_neighbours(void **state)
{
  xf_type type = *(const xf_type *)*state;
  for (uint32_t half = 0; half < 0x10000; half++) {
    float x = type == XF_F16 ? from_f16((uint16_t)half) : from_bf16((uint16_t)half), next;
    next = type == XF_F16 ? from_f16((uint16_t)(half + 1)) : from_bf16((uint16_t)(half + 1));
    float middle = (float)(((double)x + (double)next) / 2);
    const float around[] = {x, middle};
    for (int i = 0; i < 2; i++) {
      check(type, around[i]);
      check(type, nextafterf(around[i], INFINITY));
      check(type, nextafterf(around[i], -INFINITY));
    }
  }
}

static void test_edges(void **state)
{
  xf_type type = *(const xf_type *)*state;
  static const float edges[] = {
      0x1p-149f,   0x1p-126f,       0x1p-26f,    0x1p-25f,        0x1p-24f, 0x1.8p-24f,
      0x1p-14f,    65504,           65519,       65520,           65536,    1e9f,
      0x1.fep127f, 0x1.fefffep127f, 0x1.ffp127f, 0x1.fffffep127f, INFINITY, NAN};
  for (size_t i = 0; i < sizeof edges / sizeof *edges; i++) {
    check(type, edges[i]);
    check(type, -edges[i]);
  }
}

static void test_random(void **state)
{
  xf_type type = *(const xf_type *)*state;
  struct rng rng = {1};
  for (size_t i = 0; i < scaled(200000); i++) {
    uint32_t bits = (uint32_t)rng_next(&rng);
    float x;
    memcpy(&x, &bits, sizeof x);
    check(type, x);
  }
}

/* Elements a step apart, and floats, which are copied. */
static void test_steps(void **state)
{
  (void)state;
  const float x[] = {1, -2.5f, 70000, 0x1p-30f};
  uint16_t half[12];
  float whole[8];
  memset(half, 0xA5, sizeof half), memset(whole, 0xA5, sizeof whole);
  xf_narrow(XF_F16, 4, x, 3, half);
  xf_narrow(XF_F32, 4, x, 2, whole);
  for (size_t i = 0; i < 4; i++) {
    assert_int_equal(half[3 * i], to_f16(x[i]));
    assert_int_equal(half[3 * i + 1], 0xA5A5);
    assert_true(whole[2 * i] == x[i]);
    expect_poison("between", "any", &whole[2 * i + 1], 1);
  }
}

int main(void)
{
  static xf_type types[] = {XF_F16, XF_BF16};
  const struct CMUnitTest tests[] = {
      {"f16: neighbours", test_neighbours, NULL, NULL, &types[0]},
      {"bf16: neighbours", test_neighbours, NULL, NULL, &types[1]},
      {"f16: edges", test_edges, NULL, NULL, &types[0]},
      {"bf16: edges", test_edges, NULL, NULL, &types[1]},
      {"f16: random", test_random, NULL, NULL, &types[0]},
      {"bf16: random", test_random, NULL, NULL, &types[1]},
      cmocka_unit_test(test_steps),
  };
  return cmocka_run_group_tests_name("rounding", tests, NULL, NULL);
}
