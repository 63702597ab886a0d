/* The sampler against model/sampler.h read word by word, on every ISA. */
#include "model/sampler.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/failing_alloc.h"
#include "tests/isas.h"
#include "tests/oracle.h"

enum { MOST = 700 };

static xf_generate_options sampling(float temperature, float top_p, uint64_t seed)
{
  return (xf_generate_options){.struct_size = sizeof(xf_generate_options),
                               .temperature = temperature,
                               .top_p = top_p,
                               .seed = seed};
}

/* One draw with a sampler of its own; the token, or −1 − status. */
static int32_t draw(const struct xf_kernels *kernels, const xf_generate_options *options, size_t n,
                    const float *logits, uint64_t step)
{
  struct xf_sampler sampler;
  int32_t token = -1;
  xf_error error = {0};
  xf_status status = xf_sampler_init(&sampler, kernels, n, options, &error);
  if (!status) status = xf_sampler_draw(&sampler, logits, step, &token, &error);
  xf_sampler_free(&sampler);
  if (status) assert_true(strlen(error.message) > 0 && error.status == status);
  return status ? -1 - (int32_t)status : token;
}

static const float *compared; /* of by_probability */

static int by_probability(const void *a, const void *b)
{
  uint32_t i = *(const uint32_t *)a, j = *(const uint32_t *)b;
  if (compared[i] != compared[j]) return compared[i] > compared[j] ? -1 : 1;
  return i < j ? -1 : 1;
}

static float reference_uniform(uint64_t seed, uint64_t step)
{
  uint64_t z[2] = {seed + 0x9E3779B97F4A7C15u, (step + 1) * 0x9E3779B97F4A7C15u};
  for (int i = 0; i < 2; i++) {
    if (i == 1) z[1] += z[0];
    z[i] ^= z[i] >> 30;
    z[i] *= 0xBF58476D1CE4E5B9u;
    z[i] ^= z[i] >> 27;
    z[i] *= 0x94D049BB133111EBu;
    z[i] ^= z[i] >> 31;
  }
  return ldexpf((float)(z[1] >> 40), -24);
}

/* The definition, sorting everything. */
static int32_t reference(const xf_generate_options *o, size_t n, const float *x, uint64_t step)
{
  static float p[MOST];
  static uint32_t order[MOST];
  float top = x[0], kept = 0, sum = 0;
  for (size_t i = 1; i < n; i++) top = x[i] > top ? x[i] : top;
  float c = (float)(0x1.71547652b82fep+0 / (double)o->temperature);
  for (size_t i = 0; i < n; i++) p[i] = numerics_exp2((x[i] - top) * c);
  for (size_t i = 0; i < n; i++) order[i] = (uint32_t)i;
  if (o->top_p > 0 && o->top_p < 1) {
    float least = o->top_p * numerics_sum(n, p);
    compared = p;
    qsort(order, n, sizeof *order, by_probability);
    size_t count = 0;
    do kept += p[order[count++]];
    while (count < n && kept < least);
    n = count;
  } else {
    for (size_t i = 0; i < n; i++) kept += p[i];
  }
  float goal = reference_uniform(o->seed, step) * kept;
  for (size_t i = 0; i < n; i++)
    if ((sum += p[order[i]]) > goal) return (int32_t)order[i];
  fail_msg("no token");
  return -1;
}

/* Logits as models give them, or on a grid so that many are equal, or mostly ruled out. */
static void random_logits(struct rng *rng, size_t n, float *x)
{
  size_t kind = rng_below(rng, 3);
  for (size_t i = 0; i < n; i++) {
    x[i] = 4 * rng_normal(rng);
    if (kind == 1) x[i] = rintf(x[i]);
    if (kind == 2 && i != n / 2 && rng_below(rng, 8)) x[i] = -INFINITY;
  }
}

static void test_definition(void **state)
{
  (void)state;
  static const float temperatures[] = {0.02f, 0.3f, 0.8f, 1, 1.7f, 30};
  static const float top_ps[] = {0, 1e-6f, 0.3f, 0.9f, 0.95f, 0.999999f, 1, 7};
  struct rng rng = {12};
  float x[MOST];
  for (int round = 0; round < 3000; round++) {
    size_t n = 1 + rng_below(&rng, round % 2 ? 40 : MOST);
    random_logits(&rng, n, x);
    uint64_t step = rng_below(&rng, 5000);
    xf_generate_options o =
        sampling(temperatures[rng_below(&rng, 6)], top_ps[rng_below(&rng, 8)], rng_next(&rng));
    int32_t wanted = reference(&o, n, x, step);
    assert_true(x[wanted] > -INFINITY);
    for (const struct xf_kernels *k = NULL; (k = next_isa(k));) {
      int32_t got = draw(k, &o, n, x, step);
      if (got != wanted)
        fail_msg("%s, round %d: n %zu, temperature %a, top_p %a: token %ld, not %ld", k->name,
                 round, n, (double)o.temperature, (double)o.top_p, (long)got, (long)wanted);
    }
  }
}

/* Bits that must never change within a numerics number. */
static void test_uniform(void **state)
{
  (void)state;
  static const struct {
    uint64_t seed, step;
    uint32_t bits; /* of u · 2²⁴ */
  } stored[] = {{0, 0, 0xA706DD},    {0, 1, 0xB382A3},  {1, 0, 0x5E41AB},
                {1, 2047, 0x55C7B0}, {42, 7, 0xBC16A3}, {UINT64_MAX, UINT64_MAX, 0x445018}};
  for (size_t i = 0; i < sizeof stored / sizeof stored[0]; i++) {
    float u = xf_sampler_uniform(stored[i].seed, stored[i].step);
    assert_int_equal((uint32_t)ldexpf(u, 24), stored[i].bits);
  }
  double sum = 0;
  for (uint64_t step = 0; step < 100000; step++) {
    float u = xf_sampler_uniform(7, step);
    assert_true(u >= 0 && u < 1);
    sum += (double)u;
  }
  assert_true(fabs(sum / 100000 - 0.5) < 0.005);
}

static void test_greedy(void **state)
{
  (void)state;
  static const float temperatures[] = {0, -1, -0.0f, 0x1p-65f, 1e-45f};
  float x[100];
  struct rng rng = {3};
  for (const struct xf_kernels *k = NULL; (k = next_isa(k));)
    for (size_t i = 0; i < 5; i++)
      for (size_t n = 1; n <= 100; n += 9) {
        xf_generate_options o = sampling(temperatures[i], 0.5f, n);
        for (size_t j = 0; j < n; j++) x[j] = -1 - (float)rng_below(&rng, 50);
        size_t first = rng_below(&rng, n);
        x[first] = 1;
        x[first + rng_below(&rng, n - first)] = 1;
        if (n > 1) x[first ? 0 : n - 1] = first ? -INFINITY : 1;
        assert_int_equal(draw(k, &o, n, x, 0), first);
      }
}

static void test_not_finite(void **state)
{
  (void)state;
  static const float bad[] = {NAN, -NAN, INFINITY};
  float x[70];
  const xf_generate_options options[] = {sampling(0, 0, 1), sampling(1, 0, 1),
                                         sampling(1, 0.9f, 1)};
  for (const struct xf_kernels *k = NULL; (k = next_isa(k));)
    for (size_t o = 0; o < 3; o++) {
      for (size_t i = 0; i < 70; i++)
        for (size_t b = 0; b < 3; b++) {
          for (size_t j = 0; j < 70; j++) x[j] = (float)j;
          x[i] = bad[b];
          assert_int_equal(draw(k, &options[o], 70, x, 0), -1 - XF_E_FORMAT);
        }
      for (size_t j = 0; j < 70; j++) x[j] = -INFINITY;
      assert_int_equal(draw(k, &options[o], 70, x, 0), -1 - XF_E_FORMAT);
    }
}

/* The smallest and greatest temperatures and logits give a token that can be right. */
static void test_extremes(void **state)
{
  (void)state;
  static const float temperatures[] = {0x1p-64f, 1e-8f, 1, 1e8f, 3e38f};
  float x[20];
  for (const struct xf_kernels *k = NULL; (k = next_isa(k));)
    for (size_t t = 0; t < 5; t++)
      for (uint64_t step = 0; step < 50; step++)
        for (int top_p = 0; top_p < 2; top_p++) {
          xf_generate_options o = sampling(temperatures[t], top_p ? 0.7f : 0, 5);
          for (size_t i = 0; i < 20; i++) x[i] = i % 3 ? 1e9f : i % 2 ? -3e38f : -INFINITY;
          int32_t token = draw(k, &o, 20, x, step);
          assert_true(token >= 0 && x[token] > -INFINITY);
          if (t < 3) assert_true(token % 3 != 0);
          for (size_t i = 0; i < 20; i++) x[i] = i == 11 ? 1e9f : 1e9f - 1e4f;
          token = draw(k, &o, 20, x, step);
          assert_true(t < 3 ? token == 11 : token >= 0 && token < 20);
        }
}

static void test_distribution(void **state)
{
  (void)state;
  enum { DRAWS = 60000 };
  static const float x[4] = {0, 1, 2, -1};
  const struct xf_kernels *k = next_isa(NULL);
  for (int top_p = 0; top_p < 2; top_p++) {
    /* At temperature 2 the shares are 0.17, 0.28, 0.46 and 0.10; two tokens hold 0.7. */
    xf_generate_options o = sampling(2, top_p ? 0.7f : 0, 99);
    int count[4] = {0};
    double weight[4], total = 0;
    for (int i = 0; i < 4; i++) {
      weight[i] = top_p && x[i] < 1 ? 0 : exp((double)x[i] / 2);
      total += weight[i];
    }
    for (uint64_t step = 0; step < DRAWS; step++) count[draw(k, &o, 4, x, step)]++;
    for (int i = 0; i < 4; i++) {
      double share = weight[i] / total, deviation = sqrt(share * (1 - share) / DRAWS);
      assert_true(fabs((double)count[i] / DRAWS - share) <= 4 * deviation);
    }
  }
}

static void test_options(void **state)
{
  (void)state;
  static const float x[3] = {1, 2, 3};
  const struct xf_kernels *k = next_isa(NULL);
  const xf_generate_options bad[] = {sampling(NAN, 0, 1), sampling(INFINITY, 0, 1),
                                     sampling(1, NAN, 1), sampling(1, -0.1f, 1),
                                     sampling(1, INFINITY, 1)};
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
    assert_int_equal(draw(k, &bad[i], 3, x, 0), -1 - XF_E_ARGUMENT);
}

static void test_out_of_memory(void **state)
{
  (void)state;
  static const float x[3] = {1, 2, 3};
  xf_generate_options o = sampling(1, 0.5f, 1);
  for (size_t n = 0;; n++) {
    failing_alloc_after(n);
    int32_t token = draw(next_isa(NULL), &o, 3, x, 0);
    if (failing_alloc_off() == 0) break;
    assert_int_equal(token, -1 - XF_E_MEMORY);
    assert_true(n < 10);
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_definition),   cmocka_unit_test(test_uniform),
      cmocka_unit_test(test_greedy),       cmocka_unit_test(test_not_finite),
      cmocka_unit_test(test_extremes),     cmocka_unit_test(test_distribution),
      cmocka_unit_test(test_options),      cmocka_unit_test(test_out_of_memory),
      cmocka_unit_test(test_required_isas)};
  return cmocka_run_group_tests_name("sampler", tests, NULL, NULL);
}
