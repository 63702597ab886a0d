/* The public attention operator on a host's buffers: one set of bits for every ISA, layout, number
 * of threads, split, q-block and batch, within the bound of double precision; and nothing hidden
 * ever shows. */
#include <fenv.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/attention_call.h"
#include "tests/host_call.h"
#include "tests/isas.h"

enum { MOST_KEYS = 1100, MOST_COLUMNS = 256 };

/* The plainest way: dense f32 tensors, one thread, scalar kernels. */
static struct host_result plain_result(struct rng *rng, const struct host_case *c)
{
  struct host_options options = {.wide = true};
  struct host_call call = host_call_new(rng, reference, c, options);
  struct host_result r = host_result_new(c);
  call.desc.split = XF_KEYS_WHOLE;
  host_call_run(&call, reference, 0, &r);
  host_call_free(&call);
  return r;
}

static size_t lse_index(const struct host_case *c, size_t b, size_t i, size_t h)
{
  return (b * c->q_len + i) * c->q_heads + h;
}

/* One row against docs/numerics.md (tanh, and so a soft cap, is only in the oracle) and against
 * double precision. */
static void check_row(const struct host_case *c, const struct host_result *r, size_t b, size_t i,
                      size_t h)
{
  static double weights[2 * MOST_KEYS];
  static struct estimate estimates[MOST_COLUMNS];
  struct attention_row row = host_case_row(c, b, i, h);
  size_t at = lse_index(c, b, i, h);
  const float *out = r->out + at * c->d_v;
  float exact[MOST_COLUMNS];
  struct estimate lse;
  if (c->soft_cap == 0) {
    numerics_attention(&row, exact);
    expect_bits("out, against numerics.md", "scalar", out, exact, c->d_v);
  }
  oracle_attention(&row, (double)row.scale, XF_BLOCK, weights, estimates, &lse);
  for (size_t d = 0; d < c->d_v; d++)
    expect_near("out", "scalar", out[d], estimates[d].value, estimates[d].bound);
  if (isinf(lse.value))
    expect_true("lse of a row that sees nothing", "scalar", r->lse[at] == -INFINITY);
  else
    expect_near("lse", "scalar", r->lse[at], lse.value, lse.bound);
}

static void check_rows(struct rng *rng, const struct host_case *c, const struct host_result *r)
{
  for (size_t n = 0; n < 8; n++) {
    size_t b = rng_below(rng, c->batch);
    if (c->q_lens[b] == 0) continue;
    check_row(c, r, b, rng_below(rng, (size_t)c->q_lens[b]), rng_below(rng, c->q_heads));
  }
}

static void expect_result(const struct host_case *c, const char *what, const xf_context *context,
                          const struct host_result *got, const struct host_result *want)
{
  size_t rows = c->batch * c->q_len * c->q_heads;
  expect_bits(what, xf_context_isa(context), got->out, want->out, rows * c->d_v);
  expect_bits(what, xf_context_isa(context), got->lse, want->lse, rows);
}

/* Leaves out arrays that say what their absence says too. */
static void leave_out_arrays(struct rng *rng, struct host_call *call)
{
  const struct host_case *c = call->c;
  bool last = true, all_queries = true, all_keys = call->table_len == 0, from_0 = true;
  for (size_t b = 0; b < c->batch; b++) {
    last &= c->q_first[b] == c->kv_lens[b] - c->q_lens[b];
    all_queries &= c->q_lens[b] == (int64_t)c->q_len;
    all_keys &= call->kv_len[b] == (int64_t)call->inner;
    from_0 &= call->kv_begin[b] == 0;
  }
  if (last && rng_below(rng, 2)) call->desc.q_first = NULL;
  if (all_queries && rng_below(rng, 2)) call->desc.q_lens = NULL;
  if (all_keys && rng_below(rng, 2)) call->desc.kv.kv_len = NULL;
  if (from_0 && rng_below(rng, 2)) call->desc.kv.kv_begin = NULL;
}

/* The case laid out and run in some other way must give the same bits. */
static void check_variant(struct rng *rng, const struct host_case *c, const xf_context *context,
                          const struct host_result *want)
{
  static const uint32_t q_blocks[] = {0, 1, 7, 32, 256};
  struct host_options options = host_options_random(rng);
  struct host_call call = host_call_new(rng, context, c, options);
  struct host_result got = host_result_new(c);
  size_t nth = rng_below(rng, 4);
  char what[200];
  leave_out_arrays(rng, &call);
  call.desc.split = (uint32_t)rng_below(rng, 3);
  call.desc.q_block = q_blocks[rng_below(rng, 5)];
  snprintf(what, sizeof what,
           "layout %d order %d page %zu padded %d wide %d, q_block %u split %u, %zu parts or %u "
           "threads",
           (int)options.layout, (int)options.order, options.page_len, options.padded, options.wide,
           call.desc.q_block, call.desc.split, nth, xf_context_threads(context));
  host_call_run(&call, context, nth, &got);
  expect_result(c, what, context, &got, want);
  if (rng_below(rng, 4) == 0) { /* without a log-sum-exp */
    call.desc.lse = (xf_view){0};
    host_call_run(&call, context, nth, &got);
    expect_bits(what, "no lse", got.out, want->out, c->batch * c->q_len * c->q_heads * c->d_v);
  }
  host_result_free(&got);
  host_call_free(&call);
}

static void check_case(struct rng *rng, const struct host_case *c)
{
  struct host_result want = plain_result(rng, c);
  check_rows(rng, c, &want);
  for (size_t i = rng_below(rng, 3); i < n_contexts; i += 1 + rng_below(rng, 3))
    check_variant(rng, c, contexts[i], &want);
  size_t b = rng_below(rng, c->batch), row = lse_index(c, b, 0, 0);
  struct host_case alone = host_case_part(c, b);
  struct host_result part = {want.out + row * c->d_v, want.lse + row};
  check_variant(rng, &alone, contexts[rng_below(rng, n_contexts)], &part);
  host_result_free(&want);
}

static struct host_case some_case(struct rng *rng, size_t i)
{
  size_t most_keys = i % 10 == 9 ? MOST_KEYS : i % 3 ? 40 : 200;
  return host_case_random(rng, most_keys, i % 4 == 3 ? MOST_COLUMNS : 40);
}

static void test_random_cases(void **state)
{
  (void)state;
  struct rng rng = {11};
  for (size_t i = 0; i < scaled(160); i++) {
    struct host_case c = some_case(&rng, i);
    check_case(&rng, &c);
    host_case_free(&c);
  }
}

/* Causal masks, windows and boolean masks are the additive mask that hides the same keys: where
 * there is a bias anyway, to the bit. */
static void test_masks_agree(void **state)
{
  (void)state;
  struct rng rng = {12};
  for (size_t i = 0; i < scaled(60); i++) {
    struct host_case c = some_case(&rng, i), d = c;
    struct host_result want = plain_result(&rng, &c);
    size_t n = c.batch * c.q_heads * c.q_len * c.keys;
    d.causal = 0, d.window = 0, d.mask_type = XF_F32, d.mask_same = 0;
    d.mask = malloc((n + 1) * sizeof *d.mask);
    assert_non_null(d.mask);
    for (size_t at = 0; at < n; at++) {
      size_t key = at % c.keys, query = at / c.keys % c.q_len;
      size_t h = at / c.keys / c.q_len % c.q_heads, b = at / c.keys / c.q_len / c.q_heads;
      d.mask[at] = c.mask ? c.mask[at] : 0;
      if (!host_case_sees(&c, b, query, h, key)) d.mask[at] = -INFINITY;
    }
    struct host_result got = plain_result(&rng, &d);
    check_rows(&rng, &d, &got);
    if (c.mask || c.slopes) expect_result(&c, "one additive mask", reference, &got, &want);
    free(d.mask);
    host_result_free(&want), host_result_free(&got);
    host_case_free(&c);
  }
}

/* What a NaN or infinity in column d (SIZE_MAX: all) of a key or value may do to one row: nothing
 * where the row does not see it. A visible NaN shows. */
static void check_spoilt_row(const struct host_case *c, const char *isa, bool seen, int which,
                             size_t d, const float *got, const float *want)
{
  if (!seen) expect_bits("a row that does not see the spoilt key", isa, got, want, c->d_v);
  for (size_t i = 0; i < c->d_v && seen; i++) {
    if (which == 0 || d == SIZE_MAX || d == i)
      expect_true("a visible NaN shows", isa, isnan(got[i]));
    else
      expect_bits("another column", isa, &got[i], &want[i], 1);
  }
}

static void check_spoilt(struct rng *rng, struct host_case *c, const struct host_result *want)
{
  int which = (int)rng_below(rng, 2);
  size_t b = rng_below(rng, c->batch), key = rng_below(rng, c->keys);
  size_t head = rng_below(rng, c->kv_heads), group = c->q_heads / c->kv_heads;
  size_t d = rng_below(rng, 2) ? SIZE_MAX : rng_below(rng, host_case_d(c, which));
  float value = rng_below(rng, 2) ? NAN : INFINITY;
  if (c->types[which] == XF_I8) d = SIZE_MAX;
  host_case_put(c, which, b, key, head, d, value);
  const xf_context *context = contexts[rng_below(rng, n_contexts)];
  struct host_call call = host_call_new(rng, context, c, host_options_random(rng));
  struct host_result got = host_result_new(c);
  host_call_run(&call, context, 0, &got);
  for (size_t row = 0; row < c->batch * c->q_len * c->q_heads; row++) {
    size_t h = row % c->q_heads, i = row / c->q_heads % c->q_len, r_b = row / c->q_heads / c->q_len;
    bool seen = r_b == b && h / group == head && host_case_sees(c, b, i, h, key);
    if (seen && !isnan(value)) continue;
    check_spoilt_row(c, xf_context_isa(context), seen, which, d, got.out + row * c->d_v,
                     want->out + row * c->d_v);
    if (!seen || which == 1)
      expect_bits("lse", xf_context_isa(context), &got.lse[row], &want->lse[row], 1);
    else
      expect_true("lse of a visible NaN", xf_context_isa(context), isnan(got.lse[row]));
  }
  host_result_free(&got);
  host_call_free(&call);
}

static void test_hidden_keys_never_leak(void **state)
{
  (void)state;
  struct rng rng = {13};
  for (size_t i = 0; i < scaled(150); i++) {
    struct host_case c = some_case(&rng, i);
    if (c.keys > 0 && !c.same_kv_heads) {
      struct host_result want = plain_result(&rng, &c);
      check_spoilt(&rng, &c, &want);
      host_result_free(&want);
    }
    host_case_free(&c);
  }
}

/* Sequences without keys, or with all keys hidden: zeros and −inf, or the sink alone. */
static void test_rows_that_see_nothing(void **state)
{
  (void)state;
  struct rng rng = {14};
  for (size_t i = 0; i < scaled(30); i++) {
    struct host_case c = some_case(&rng, i);
    for (size_t b = 0; b < c.batch; b++) {
      c.q_first[b] = i % 2 ? -100 : c.q_first[b];
      if (i % 2 == 0) c.kv_lens[b] = 0;
    }
    if (i % 2) c.causal = 1;
    struct host_result r = plain_result(&rng, &c);
    for (size_t row = 0; row < c.batch * c.q_len * c.q_heads; row++) {
      size_t h = row % c.q_heads, query = row / c.q_heads % c.q_len;
      if ((int64_t)query >= c.q_lens[row / c.q_heads / c.q_len]) continue;
      for (size_t d = 0; d < c.d_v; d++) assert_true(r.out[row * c.d_v + d] == 0);
      if (c.sinks) /* sink · log2 e and its product with ln 2 round */
        expect_near("lse", "scalar", r.lse[row], (double)c.sinks[h],
                    0x1p-22 * fabs((double)c.sinks[h]));
      else
        assert_true(r.lse[row] == -INFINITY);
    }
    check_case(&rng, &c);
    host_result_free(&r);
    host_case_free(&c);
  }
}

/* A row all of whose keys have the most negative float for a mask: the mean of V. */
static void check_mean(const struct host_case *c, const struct host_result *r, size_t row)
{
  size_t h = row % c->q_heads, b = row / c->q_heads / c->q_len;
  struct attention_row at = host_case_row(c, b, row / c->q_heads % c->q_len, h);
  for (size_t d = 0; d < c->d_v; d++) {
    double sum = 0, magnitude = 0, n = (double)at.n;
    for (size_t j = 0; j < at.n; j++) sum += (double)at.v[j * at.ldv + d];
    for (size_t j = 0; j < at.n; j++) magnitude += fabs((double)at.v[j * at.ldv + d]);
    expect_near("the mean", "scalar", r->out[row * c->d_v + d], sum / n,
                0x1p-24 * (n + 8) * magnitude / n);
  }
  if (c->soft_cap == 0) {
    float exact[MOST_COLUMNS];
    numerics_attention(&at, exact);
    expect_bits("the mean, against numerics.md", "scalar", r->out + row * c->d_v, exact, c->d_v);
  }
  expect_true("its lse", "scalar", r->lse[row] < -0x1p125f && isfinite(r->lse[row]));
}

/* Hides the first keys of each row with the most negative float, as many frameworks do, and in
 * `with_infinity` with −inf. */
static void hide_first_keys(struct rng *rng, struct host_case *c, float *with_infinity)
{
  size_t rows = c->batch * c->q_heads * c->q_len;
  c->mask_type = XF_F32;
  c->mask = malloc((rows * c->keys + 1) * sizeof *c->mask);
  assert_non_null(c->mask);
  for (size_t row = 0; row < rows; row++) {
    size_t hidden = rng_below(rng, 2) ? c->keys : rng_below(rng, c->keys + 1);
    for (size_t i = 0; i < c->keys; i++) {
      float value = rng_normal(rng);
      c->mask[row * c->keys + i] = i < hidden ? -FLT_MAX : value;
      with_infinity[row * c->keys + i] = i < hidden ? -INFINITY : value;
    }
  }
}

static void test_most_negative_mask(void **state)
{
  (void)state;
  struct rng rng = {16};
  for (size_t i = 0; i < scaled(200); i++) {
    struct host_case c = some_case(&rng, i), d;
    bool usable = !c.mask && !c.window && !c.causal && !c.sinks && !c.slopes;
    float *mask = malloc((c.batch * c.q_heads * c.q_len * c.keys + 1) * sizeof *mask);
    if (usable) {
      hide_first_keys(&rng, &c, mask);
      d = c;
      d.mask = mask;
      struct host_result got = plain_result(&rng, &c), want = plain_result(&rng, &d);
      for (size_t row = 0; row < c.batch * c.q_len * c.q_heads; row++) {
        size_t b = row / c.q_heads / c.q_len;
        if ((int64_t)(row / c.q_heads % c.q_len) >= c.q_lens[b] || c.kv_lens[b] == 0) continue;
        if (want.lse[row] == -INFINITY) check_mean(&c, &got, row);
        for (size_t k = 0; k < c.d_v && want.lse[row] != -INFINITY; k++) /* but for a zero's sign */
          assert_true(got.out[row * c.d_v + k] == want.out[row * c.d_v + k]);
      }
      check_variant(&rng, &c, contexts[rng_below(&rng, n_contexts)], &got);
      host_result_free(&got), host_result_free(&want);
    }
    free(mask);
    host_case_free(&c);
  }
}

/* The caller's rounding mode neither changes a bit nor is changed. */
static void test_rounding_mode(void **state)
{
  (void)state;
  static const int modes[] = {FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO};
  struct rng rng = {15};
  for (size_t i = 0; i < scaled(40); i++) {
    struct host_case c = some_case(&rng, i % 9);
    const xf_context *context = contexts[rng_below(&rng, n_contexts)];
    struct host_call call = host_call_new(&rng, context, &c, host_options_random(&rng));
    struct host_result want = plain_result(&rng, &c), got = host_result_new(&c);
    fesetround(modes[i % 3]);
    host_call_run(&call, context, i % 2, &got);
    int mode = fegetround();
    fesetround(FE_TONEAREST);
    assert_int_equal(mode, modes[i % 3]);
    expect_result(&c, "another rounding mode", context, &got, &want);
    host_result_free(&want), host_result_free(&got);
    host_call_free(&call);
    host_case_free(&c);
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_random_cases),           cmocka_unit_test(test_masks_agree),
      cmocka_unit_test(test_hidden_keys_never_leak), cmocka_unit_test(test_rows_that_see_nothing),
      cmocka_unit_test(test_most_negative_mask),     cmocka_unit_test(test_rounding_mode),
      cmocka_unit_test(test_required_isas)};
  return cmocka_run_group_tests_name("attention for hosts", tests, contexts_set_up,
                                     contexts_tear_down);
}
