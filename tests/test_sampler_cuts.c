/* Bias, penalties and the cuts of the sampler against model/{sampler,adjust,candidates}.h read word
 * by word, on every ISA; log probabilities. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model/sampler.h"
#include "tests/failing_alloc.h"
#include "tests/isas.h"
#include "tests/oracle.h"

enum { MOST = 500, TEXT = 300, BIASES = 3 };

/* One random case. */
struct draw_case {
  xf_generate_options options;
  xf_logit_bias bias[BIASES];
  size_t vocab, length;
  int32_t text[TEXT]; /* [length], in front of the token */
  float x[MOST];
  uint64_t step;
};

static float one_of(struct rng *rng, size_t n, const float *values)
{
  return values[rng_below(rng, n)];
}

static void random_case(struct rng *rng, struct draw_case *c)
{
  *c = (struct draw_case){.vocab = 1 + rng_below(rng, rng_below(rng, 2) ? 30 : MOST),
                          .length = rng_below(rng, TEXT),
                          .step = rng_below(rng, 4000)};
  bool grid = rng_below(rng, 3) == 0, few = rng_below(rng, 4) == 0;
  for (size_t i = 0; i < c->vocab; i++) {
    float x = 4 * rng_normal(rng);
    c->x[i] = few && i && rng_below(rng, 4) ? -INFINITY : grid ? rintf(x) : x;
  }
  for (size_t i = 0; i < c->length; i++) c->text[i] = (int32_t)rng_below(rng, c->vocab);
  for (size_t i = 0; i < BIASES; i++)
    c->bias[i] = (xf_logit_bias){(int32_t)rng_below(rng, c->vocab), 3 * rng_normal(rng)};
  if (c->vocab > 1 && c->bias[0].token) c->bias[0].bias = -INFINITY;
  c->options =
      (xf_generate_options){.struct_size = sizeof c->options,
                            .temperature = one_of(rng, 5, (float[]){0, 0.1f, 0.8f, 1, 4}),
                            .top_p = one_of(rng, 5, (float[]){0, 0.2f, 0.9f, 0.9999f, 1}),
                            .seed = rng_next(rng),
                            .top_k = rng_below(rng, 2) ? rng_below(rng, c->vocab + 3) : 0,
                            .min_p = one_of(rng, 5, (float[]){0, 0, 0.05f, 0.7f, 1}),
                            .typical = one_of(rng, 5, (float[]){0, 0.1f, 0.6f, 0.95f, 3}),
                            .repetition_penalty = one_of(rng, 4, (float[]){0, 1, 1.3f, 0.8f}),
                            .frequency_penalty = one_of(rng, 3, (float[]){0, 0.3f, -0.1f}),
                            .presence_penalty = one_of(rng, 3, (float[]){0, 0.7f, -0.4f}),
                            .repeat_last_n = (uint32_t)one_of(rng, 4, (float[]){0, 1, 10, 1000}),
                            .n_logit_bias = rng_below(rng, BIASES + 1)};
  c->options.logit_bias = c->bias;
}

static void reference_adjust(const struct draw_case *c, float *x)
{
  const xf_generate_options *o = &c->options;
  float r = o->repetition_penalty == 0 ? 1 : o->repetition_penalty;
  size_t window = o->repeat_last_n ? o->repeat_last_n : 64;
  size_t first = c->length > window ? c->length - window : 0;
  memcpy(x, c->x, c->vocab * sizeof *x);
  for (size_t i = 0; i < o->n_logit_bias; i++) x[c->bias[i].token] += c->bias[i].bias;
  for (size_t id = 0; id < c->vocab; id++) {
    int n = 0;
    for (size_t i = first; i < c->length; i++) n += c->text[i] == (int32_t)id;
    if (n == 0) continue;
    x[id] = x[id] > 0 ? x[id] / r : x[id] * r;
    float often = (float)n * o->frequency_penalty;
    x[id] -= often;
    x[id] -= o->presence_penalty;
  }
}

/* The list of the definition. */
struct list {
  int32_t ids[MOST];
  size_t n;
};

static const float *sorted_p, *sorted_by; /* of in_order */

static int in_order(const void *a, const void *b)
{
  int32_t i = *(const int32_t *)a, j = *(const int32_t *)b;
  if (sorted_by && sorted_by[i] != sorted_by[j]) return sorted_by[i] < sorted_by[j] ? -1 : 1;
  if (sorted_p[i] != sorted_p[j]) return sorted_p[i] > sorted_p[j] ? -1 : 1;
  return i < j ? -1 : 1;
}

static void sort(struct list *list, const float *p, const float *by)
{
  sorted_p = p;
  sorted_by = by;
  qsort(list->ids, list->n, sizeof *list->ids, in_order);
}

static float sum_of(const struct list *list, const float *p)
{
  float sum = 0;
  for (size_t i = 0; i < list->n; i++) sum += p[list->ids[i]];
  return sum;
}

static void cut_behind(struct list *list, const float *p, float least)
{
  float sum = 0;
  for (size_t i = 0; i < list->n; i++)
    if ((sum += p[list->ids[i]]) >= least) list->n = i + 1;
}

static void remove_below(struct list *list, const float *p, float least, bool equal_too)
{
  size_t n = 0;
  for (size_t i = 0; i < list->n; i++) {
    float value = p[list->ids[i]];
    if (value > least || (value == least && !equal_too)) list->ids[n++] = list->ids[i];
  }
  list->n = n;
}

static void reference_typical(struct list *list, const float *p, const float *e, float typical)
{
  float distance[MOST];
  double top = 0, bottom = 0;
  remove_below(list, p, 0, true);
  for (size_t i = 0; i < list->n; i++) {
    int32_t id = list->ids[i];
    top += (double)p[id] * (double)e[id];
    bottom += (double)p[id];
  }
  for (size_t i = 0; i < list->n; i++)
    distance[list->ids[i]] = fabsf(e[list->ids[i]] - (float)(top / bottom));
  float least = typical * sum_of(list, p);
  sort(list, p, distance);
  cut_behind(list, p, least);
}

static void reference_cuts(const xf_generate_options *o, struct list *list, const float *p,
                           const float *e, float total)
{
  size_t vocab = list->n;
  if (o->top_k && o->top_k < vocab) {
    sort(list, p, NULL);
    list->n = o->top_k;
  }
  if (o->typical > 0 && o->typical < 1) reference_typical(list, p, e, o->typical);
  if (o->top_p > 0 && o->top_p < 1) {
    float least = o->top_p * (list->n == vocab ? total : sum_of(list, p));
    sort(list, p, NULL);
    cut_behind(list, p, least);
  }
  float greatest = 0;
  for (size_t i = 0; i < list->n; i++) greatest = fmaxf(greatest, p[list->ids[i]]);
  if (o->min_p > 0) remove_below(list, p, o->min_p * greatest, false);
}

/* The token of the definition; −1: none is left. */
static int32_t reference(const struct draw_case *c)
{
  float x[MOST], p[MOST], e[MOST];
  struct list list = {.n = c->vocab};
  reference_adjust(c, x);
  size_t best = 0;
  for (size_t i = 1; i < c->vocab; i++) best = x[i] > x[best] ? i : best;
  if (!(x[best] > -INFINITY)) return -1;
  if (c->options.temperature <= 0) return (int32_t)best;
  float scale = (float)(0x1.71547652b82fep+0 / (double)c->options.temperature), sum = 0;
  for (size_t i = 0; i < c->vocab; i++) {
    e[i] = (x[i] - x[best]) * scale;
    p[i] = numerics_exp2(e[i]);
    list.ids[i] = (int32_t)i;
  }
  reference_cuts(&c->options, &list, p, e, numerics_sum(c->vocab, p));
  float goal = xf_sampler_uniform(c->options.seed, c->step) * sum_of(&list, p);
  for (size_t i = 0; i < list.n; i++)
    if ((sum += p[list.ids[i]]) > goal) return list.ids[i];
  fail_msg("no token");
  return -1;
}

/* The sampler's token, or −1 for XF_E_ARGUMENT. */
static int32_t draw(const struct xf_kernels *kernels, const struct draw_case *c)
{
  struct xf_sampler sampler;
  int32_t token = -1;
  xf_error error = {0};
  if (xf_sampler_init(&sampler, kernels, c->vocab, &c->options, &error))
    fail_msg("%s", error.message);
  xf_sampler_accept(&sampler, c->text, c->length / 3);
  xf_sampler_accept(&sampler, c->text + c->length / 3, c->length - c->length / 3);
  xf_status status = xf_sampler_draw(&sampler, c->x, c->step, &token, &error);
  xf_sampler_free(&sampler);
  if (status && status != XF_E_ARGUMENT) fail_msg("%s", error.message);
  return status ? -1 : token;
}

static void test_definition(void **state)
{
  (void)state;
  static struct draw_case c;
  struct rng rng = {31};
  int none = 0;
  for (int round = 0; round < 20000; round++) {
    random_case(&rng, &c);
    int32_t wanted = reference(&c);
    none += wanted < 0;
    for (const struct xf_kernels *k = NULL; (k = next_isa(k));) {
      int32_t got = draw(k, &c);
      if (got != wanted)
        fail_msg("%s, round %d of %zu tokens: token %ld, not %ld", k->name, round, c.vocab,
                 (long)got, (long)wanted);
    }
  }
  assert_true(none < 1000);
}

/* Cases worked out by hand, where the definition's words cannot be misread twice. p is 8, 4, 2, 1,
 * 1 sixteenths. */
static void test_by_hand(void **state)
{
  (void)state;
  static const float x[5] = {3, 2, 1, 0, 0}; /* at temperature log2 e: powers of 2 */
  static const struct {
    size_t top_k;
    float typical, top_p, min_p;
    unsigned kept; /* bit i: token i can come */
  } cases[] = {
      {0, 0, 0, 0, 31},
      {2, 0, 0, 0, 3},
      {4, 0, 0, 0, 15},
      {9, 0, 0, 0, 31},
      {0, 0, 0, 0.25f, 7},
      {0, 0, 0, 1, 1},
      {0, 0, 0, 0.1f, 31},
      {0, 0, 0.74f, 0, 3},
      {0, 0, 0.8f, 0, 7},
      {3, 0, 0.6f, 0, 3},
      {3, 0, 0.5f, 0, 1},
      /* The entropy is 1.875 bits; the tokens' information 1, 2, 3, 4, 4. */
      {0, 0.2f, 0, 0, 2},
      {0, 0.3f, 0, 0, 3},
      {0, 0.8f, 0, 0, 7},
      {0, 0.2f, 0.1f, 1, 2},
  };
  for (const struct xf_kernels *k = NULL; (k = next_isa(k));)
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
      static struct draw_case c;
      c = (struct draw_case){.vocab = 5,
                             .options = {.struct_size = sizeof c.options,
                                         .temperature = 0x1.715476p+0f,
                                         .top_k = cases[i].top_k,
                                         .typical = cases[i].typical,
                                         .top_p = cases[i].top_p,
                                         .min_p = cases[i].min_p}};
      memcpy(c.x, x, sizeof x);
      unsigned kept = 0;
      for (c.step = 0; c.step < 400; c.step++) kept |= 1u << draw(k, &c);
      if (kept != cases[i].kept) fail_msg("case %zu: %u, not %u", i, kept, cases[i].kept);
    }
}

static void test_logprobs(void **state)
{
  (void)state;
  static float x[MOST];
  static xf_token_logprob first[MOST], best[MOST];
  static const xf_generate_options greedy;
  struct rng rng = {8};
  for (int round = 0; round < 300; round++) {
    size_t vocab = 1 + rng_below(&rng, MOST), n = 1 + rng_below(&rng, vocab), isa = 0;
    double sum = 0, top = -1e9;
    for (size_t i = 0; i < vocab; i++) {
      x[i] = round % 2 ? rintf(3 * rng_normal(&rng)) : 5 * rng_normal(&rng);
      if (i && rng_below(&rng, 9) == 0) x[i] = -INFINITY;
      top = fmax(top, (double)x[i]);
    }
    for (size_t i = 0; i < vocab; i++) sum += exp((double)x[i] - top);
    for (const struct xf_kernels *k = NULL; (k = next_isa(k)); isa++) {
      xf_token_logprob chosen = {(int32_t)rng_below(&rng, vocab), 0};
      memset(best, 0, sizeof best); /* padding */
      struct xf_sampler sampler;
      assert_int_equal(xf_sampler_init(&sampler, k, vocab, &greedy, NULL), XF_OK);
      xf_sampler_logprobs(&sampler, x, &chosen, best, n);
      xf_sampler_free(&sampler);
      if (isa == 0) memcpy(first, best, sizeof best);
      assert_memory_equal(best, first, n * sizeof *best);
      for (size_t i = 0; i < n; i++) {
        float logit = x[best[i].token];
        double wanted = (double)logit - top - log(sum);
        if (logit == -INFINITY)
          assert_true(best[i].logprob == -INFINITY);
        else
          assert_true(fabs((double)best[i].logprob - wanted) <= 4e-6 * (1 + fabs(wanted)));
        if (i == 0) continue;
        float before = x[best[i - 1].token];
        assert_true(before > logit || (before == logit && best[i - 1].token < best[i].token));
      }
      size_t greater = 0;
      for (size_t i = 0; i < vocab; i++) greater += x[i] > x[best[n - 1].token];
      assert_true(greater < n);
      for (size_t i = 0; i < n; i++)
        if (best[i].token == chosen.token)
          assert_memory_equal(&chosen.logprob, &best[i].logprob, sizeof chosen.logprob);
    }
  }
}

static void test_options(void **state)
{
  (void)state;
  static const xf_logit_bias low = {-1, 0}, high = {3, 0}, unclear = {1, NAN},
                             endless = {1, INFINITY};
  const xf_generate_options bad[] = {
      {.min_p = NAN},
      {.min_p = -0.1f},
      {.min_p = 1.1f},
      {.typical = NAN},
      {.typical = -1},
      {.repetition_penalty = -1},
      {.repetition_penalty = INFINITY},
      {.frequency_penalty = NAN},
      {.presence_penalty = -INFINITY},
      {.n_logit_bias = 1},
      {.logit_bias = &low, .n_logit_bias = 1},
      {.logit_bias = &high, .n_logit_bias = 1},
      {.logit_bias = &unclear, .n_logit_bias = 1},
      {.logit_bias = &endless, .n_logit_bias = 1},
  };
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    struct xf_sampler sampler;
    xf_error error = {0};
    assert_int_equal(xf_sampler_init(&sampler, next_isa(NULL), 3, &bad[i], &error), XF_E_ARGUMENT);
    assert_true(strlen(error.message) > 0);
  }
}

/* Bias and penalties may not leave nothing, or what is no number. */
static void test_nothing_left(void **state)
{
  (void)state;
  static const xf_logit_bias all[] = {{0, -INFINITY}, {1, -INFINITY}, {2, -INFINITY}};
  static struct draw_case c;
  for (int temperature = 0; temperature < 2; temperature++) {
    c = (struct draw_case){.vocab = 3, .x = {1, 2, 3}};
    c.options = (xf_generate_options){
        .temperature = (float)temperature, .logit_bias = all, .n_logit_bias = 3};
    assert_int_equal(draw(next_isa(NULL), &c), -1);
    c.options.n_logit_bias = 2;
    assert_int_equal(draw(next_isa(NULL), &c), 2);
    c.options =
        (xf_generate_options){.temperature = (float)temperature, .repetition_penalty = 1e-38f};
    c.x[0] = 1e30f;
    c.length = 1; /* token 0 */
    assert_int_equal(draw(next_isa(NULL), &c), -1);
  }
}

static void test_out_of_memory(void **state)
{
  (void)state;
  static const xf_logit_bias bias = {1, 2};
  const xf_generate_options options = {.temperature = 1,
                                       .typical = 0.5f,
                                       .presence_penalty = 1,
                                       .logit_bias = &bias,
                                       .n_logit_bias = 1};
  for (size_t n = 0;; n++) {
    struct xf_sampler sampler;
    failing_alloc_after(n);
    xf_status status = xf_sampler_init(&sampler, next_isa(NULL), 9, &options, NULL);
    xf_sampler_free(&sampler);
    if (failing_alloc_off() == 0) break;
    assert_int_equal(status, XF_E_MEMORY);
    assert_true(n < 10);
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_definition),   cmocka_unit_test(test_by_hand),
      cmocka_unit_test(test_logprobs),     cmocka_unit_test(test_options),
      cmocka_unit_test(test_nothing_left), cmocka_unit_test(test_out_of_memory),
      cmocka_unit_test(test_required_isas)};
  return cmocka_run_group_tests_name("sampler_cuts", tests, NULL, NULL);
}
