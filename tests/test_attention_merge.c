/* The attention kernels that merge the partials of blocks and finish a row. */
#include <math.h>
#include <string.h>

#include "tests/compare.h"
#include "tests/isas.h"
#include "tests/oracle.h"

enum { MOST_D = 256 };

static struct arena acc_arena, block_arena;

static int set_up(void **state)
{
  (void)state;
  acc_arena = arena_new(MOST_D + 1);
  block_arena = arena_new(MOST_D + 1);
  return 0;
}

static int tear_down(void **state)
{
  (void)state;
  arena_free(&acc_arena);
  arena_free(&block_arena);
  return 0;
}

static float random_maximum(struct rng *rng)
{
  static const float special[] = {0, -0.0f, 1e4f, -1e4f, INFINITY, 3e38f, -3e38f, 0x1p-140f};
  return rng_below(rng, 4) ? 10 * rng_normal(rng) : special[rng_below(rng, 8)];
}

static void check_merge(struct rng *rng, size_t d_v, enum fill fill)
{
  static float old[MOST_D], add[MOST_D], want[MOST_D];
  fill_array(rng, fill, d_v, old);
  fill_array(rng, fill, d_v, add);
  float m = random_maximum(rng), m_b = random_maximum(rng);
  float l = rng_below(rng, 5) ? 1 + rng_uniform(rng) : 0;
  float l_b = rng_below(rng, 5) ? 1 + rng_uniform(rng) : 0;
  if (fill == FILL_SPECIAL && rng_below(rng, 2)) l_b = NAN;
  this_case("%s d_v %zu m %a l %a m_b %a l_b %a", fill_names[fill], d_v, (double)m, (double)l,
            (double)m_b, (double)l_b);
  float want_m = m, want_l = l;
  memcpy(want, old, d_v * sizeof *want);
  numerics_merge(d_v, &want_m, &want_l, want, m_b, l_b, add);
  for (const struct xf_kernels *isa = NULL; (isa = next_isa(isa));) {
    size_t shift = rng_below(rng, 2);
    float *acc = arena_copy(&acc_arena, d_v, shift, old), state[2] = {m, l};
    const float *acc_b = arena_copy(&block_arena, d_v, shift, add);
    isa->attention_merge(d_v, &state[0], &state[1], acc, m_b, l_b, acc_b);
    expect_bits("merged m", isa->name, &state[0], &want_m, 1);
    expect_bits("merged l", isa->name, &state[1], &want_l, 1);
    expect_bits("merged acc", isa->name, acc, want, d_v);
    arena_expect_untouched(&acc_arena, isa->name, acc, d_v);
  }
}

static void test_merge(void **state)
{
  (void)state;
  struct rng rng = {6};
  for (size_t d_v = 1; d_v <= MOST_D; d_v++) {
    for (size_t i = 0; i < scaled(30); i++)
      check_merge(&rng, d_v, i % 3 ? FILL_NORMAL : FILL_SPECIAL);
  }
}

static void check_finish(struct rng *rng, size_t d_v, enum fill fill)
{
  static float acc[MOST_D], want[MOST_D], elsewhere[MOST_D];
  float m = random_maximum(rng), l = rng_below(rng, 5) ? 1 + 100 * fabsf(rng_normal(rng)) : 0;
  if (fill == FILL_SPECIAL && rng_below(rng, 4) == 0) l = NAN;
  this_case("%s d_v %zu m %a l %a", fill_names[fill], d_v, (double)m, (double)l);
  fill_array(rng, fill, d_v, acc);
  float inverse = 1 / l;
  for (size_t d = 0; d < d_v; d++) want[d] = l == 0 ? 0 : acc[d] * inverse;
  float scalar[MOST_D];
  memcpy(scalar, acc, d_v * sizeof *acc);
  float want_lse = xf_kernels_scalar.log_sum_exp(m, l);
  xf_kernels_scalar.attention_finish(d_v, l, scalar, scalar);
  for (const struct xf_kernels *isa = NULL; (isa = next_isa(isa));) {
    float *in_place = arena_copy(&acc_arena, d_v, rng_below(rng, 2), acc);
    float lse = isa->log_sum_exp(m, l);
    isa->attention_finish(d_v, l, acc, elsewhere);
    expect_bits("finished acc, elsewhere", isa->name, elsewhere, want, d_v);
    isa->attention_finish(d_v, l, in_place, in_place);
    expect_bits("finished acc", isa->name, in_place, want, d_v);
    expect_bits("lse", isa->name, &lse, &want_lse, 1);
    arena_expect_untouched(&acc_arena, isa->name, in_place, d_v);
  }
  double lse = (double)m * 0.69314718055994531 + log((double)l);
  if (l > 0 && isfinite(m)) /* the constant, log (one ULP) and the FMA round */
    expect_near("lse", "scalar", want_lse, lse,
                0x1p-23 * (fabs((double)m) + log((double)l) + fabs(lse)) + 0x1p-149);
}

static void test_finish(void **state)
{
  (void)state;
  struct rng rng = {7};
  for (size_t d_v = 1; d_v <= MOST_D; d_v++) {
    for (size_t i = 0; i < scaled(20); i++)
      check_finish(&rng, d_v, i % 3 ? FILL_NORMAL : FILL_SPECIAL);
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_merge), cmocka_unit_test(test_finish),
                                     cmocka_unit_test(test_required_isas)};
  return cmocka_run_group_tests_name("attention merge", tests, set_up, tear_down);
}
