/* The attention operator over paged K and V: one set of bits for every ISA, number of threads,
 * split, q-block, chunking and batch, within the bound of double precision. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tests/attention_call.h"
#include "tests/isas.h"

enum { MOST_KEYS = 2000 };

static void add_sequence(struct rng *rng, struct call *c, enum fill fill, size_t first,
                         size_t q_len, size_t kv_len)
{
  struct call_data *data = call_add(c, first, q_len, kv_len);
  fill_array(rng, FILL_NORMAL, q_len * c->a.q_stride, data->q);
  fill_array(rng, fill, kv_len * c->a.kv_heads * c->a.kv.d_k, data->k);
  fill_array(rng, FILL_NORMAL, kv_len * c->a.kv_heads * c->a.kv.d_v, data->v);
  call_write_pages(c);
}

static void random_heads(struct rng *rng, struct call *c, size_t most_d)
{
  static const xf_type types[] = {XF_F32, XF_F16, XF_BF16, XF_I8};
  memset(c, 0, sizeof *c);
  struct xf_attention *a = &c->a;
  a->kv_heads = 1 + rng_below(rng, 4);
  a->q_heads = a->kv_heads * (1 + rng_below(rng, 5));
  size_t d = 1 + rng_below(rng, most_d), page_len = 16 * (1 + rng_below(rng, 5));
  a->kv = (struct xf_kv_layout){
      .type = types[rng_below(rng, 4)], .page_len = page_len, .d_k = d, .d_v = d};
  if (rng_below(rng, 3) == 0) a->kv.d_v = 1 + rng_below(rng, most_d);
  call_set_layout(c, rng_below(rng, 50)); /* another layer's share of the page */
  a->q_stride = a->q_heads * d + rng_below(rng, 7);
  a->out_stride = a->q_heads * a->kv.d_v + rng_below(rng, 7);
  a->scale = (1.5f + rng_uniform(rng)) / sqrtf((float)d);
}

static void check_rows(struct rng *rng, const struct call *c, enum call_kind kind,
                       const struct call_result *r)
{
  static double weights[2 * MOST_KEYS];
  static struct estimate estimates[MOST_D];
  for (size_t i = 0; i < 6; i++) {
    size_t sequence = rng_below(rng, c->a.n), head = rng_below(rng, c->a.q_heads);
    if (c->sequences[sequence].q_len == 0) continue;
    size_t token = rng_below(rng, c->sequences[sequence].q_len);
    struct attention_row row = call_row(c, sequence, token, head);
    const float *out = r->out[sequence] + token * c->a.out_stride + head * c->a.kv.d_v;
    float exact[MOST_D], lse = r->lse[sequence][token * c->a.q_heads + head];
    if (kind == FLASH) {
      numerics_attention(&row, exact);
      expect_bits("out, against numerics.md", "scalar", out, exact, row.d_v);
    }
    struct estimate want;
    oracle_attention(&row, (double)c->a.scale, kind == FLASH ? XF_BLOCK : MOST_KEYS, weights,
                     estimates, &want);
    if (row.n == 0) expect_true("lse without keys", "scalar", lse == -INFINITY);
    if (row.n > 0) expect_near("lse", "scalar", lse, want.value, want.bound);
    for (size_t d = 0; d < row.d_v; d++)
      expect_near("out", "scalar", out[d], estimates[d].value, estimates[d].bound);
  }
}

static const size_t q_blocks[] = {0, 1, 32, 64, 256};

/* Every ISA and number of threads, each with some splits and q-blocks (all of them: `all`). */
static void check_call(struct rng *rng, const struct call *c, int all)
{
  struct call_result want = result_new(c), got = result_new(c);
  run_call(reference, c, FLASH, 1, XF_KEYS_WHOLE, &want);
  check_rows(rng, c, FLASH, &want);
  for (size_t i = 0; i < n_contexts; i++) {
    for (int split = XF_KEYS_AUTO; split <= XF_KEYS_SPLIT; split++) {
      for (size_t j = 0; j < 6; j++) {
        if (!all && rng_below(rng, 9) > 0) continue;
        size_t q_block = j < 5 ? q_blocks[j] : 1 + rng_below(rng, 100);
        char what[100];
        snprintf(what, sizeof what, "flash, %u threads, split %d, q_block %zu",
                 xf_context_threads(contexts[i]), split, q_block);
        run_call(contexts[i], c, FLASH, q_block, (enum xf_attention_split_mode)split, &got);
        expect_same(c, what, xf_context_isa(contexts[i]), &got, &want);
      }
    }
  }
  run_call(reference, c, STANDARD, 0, XF_KEYS_AUTO, &want);
  check_rows(rng, c, STANDARD, &want);
  for (size_t i = 0; i < n_contexts; i++) {
    run_call(contexts[i], c, STANDARD, 0, XF_KEYS_AUTO, &got);
    expect_same(c, "standard", xf_context_isa(contexts[i]), &got, &want);
  }
  result_free(&want, c->a.n);
  result_free(&got, c->a.n);
}

static void name_case(const struct call *c, uint64_t seed)
{
  const struct xf_attention *a = &c->a;
  char text[300] = "";
  for (size_t i = 0; i < a->n; i++) {
    const struct xf_attention_sequence *s = &c->sequences[i];
    snprintf(text + strlen(text), sizeof text - strlen(text), " first %zu q_len %zu kv_len %zu;",
             s->first, s->q_len, s->kv_len);
  }
  this_case("seed %llu %s heads %zu/%zu d_k %zu d_v %zu page %zu causal %d:%s",
            (unsigned long long)seed, xf_type_name(a->kv.type), a->q_heads, a->kv_heads, a->kv.d_k,
            a->kv.d_v, a->kv.page_len, a->causal, text);
}

static void random_call(struct rng *rng, struct call *c, size_t most_keys)
{
  uint64_t seed = rng->state;
  random_heads(rng, c, rng_below(rng, 4) ? 40 : MOST_D);
  c->a.causal = rng_below(rng, 3) > 0;
  size_t n = 1 + rng_below(rng, MOST_SEQUENCES), most_queries = most_keys > 500 ? 9 : 70;
  for (size_t i = 0; i < n; i++) {
    size_t kv_len = 1 + rng_below(rng, most_keys), q_len = 1;
    if (rng_below(rng, 3)) q_len += rng_below(rng, kv_len < most_queries ? kv_len : most_queries);
    size_t first = kv_len - q_len;
    if (!c->a.causal && rng_below(rng, 3) == 0)
      q_len = most_queries, first = 0; /* q_len > kv_len */
    add_sequence(rng, c, rng_below(rng, 4) ? FILL_NORMAL : FILL_RISING, first, q_len, kv_len);
  }
  name_case(c, seed);
}

static void test_random_calls(void **state)
{
  (void)state;
  struct rng rng = {1};
  struct call c;
  for (size_t i = 0; i < scaled(120); i++) {
    random_call(&rng, &c, i % 6 == 0 ? 1700 : i % 2 ? 40 : 200);
    check_call(&rng, &c, i % 10 == 9);
    call_free(&c);
  }
}

/* Around the blocks of 512 keys. */
static void test_block_edges(void **state)
{
  (void)state;
  static const size_t lengths[] = {1, 15, 16, 17, 511, 512, 513, 1023, 1024, 1025, 1537};
  struct rng rng = {2};
  struct call c;
  for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
    random_heads(&rng, &c, 32);
    c.a.causal = true;
    size_t q_len = lengths[i] < 5 ? lengths[i] : 5;
    add_sequence(&rng, &c, FILL_NORMAL, lengths[i] - q_len, q_len, lengths[i]);
    name_case(&c, i);
    check_call(&rng, &c, 0);
    call_free(&c);
  }
}

/* Sequence `sequence` of the call alone, and of it only tokens from … from + n − 1. */
static struct call part_of(const struct call *c, size_t sequence, size_t from, size_t n)
{
  struct call part = *c;
  struct xf_attention_sequence *s = &part.sequences[0];
  *s = c->sequences[sequence];
  part.data[0] = c->data[sequence];
  part.a.n = 1;
  s->q += from * c->a.q_stride;
  if (c->a.causal) {
    s->first += from;
    s->kv_len = s->first + n;
  }
  s->q_len = n;
  return part;
}

/* Prefill, in one piece with other sequences, equals any chunking of one sequence alone. */
static void check_chunks(struct rng *rng, const struct call *c, const struct call_result *want,
                         size_t sequence, size_t most)
{
  for (size_t from = 0, n; from < c->sequences[sequence].q_len; from += n) {
    n = 1 + rng_below(rng, most);
    if (n > c->sequences[sequence].q_len - from) n = c->sequences[sequence].q_len - from;
    struct call part = part_of(c, sequence, from, n);
    struct call_result got = result_new(&part), expected = *want;
    const xf_context *context = contexts[rng_below(rng, n_contexts)];
    run_call(context, &part, FLASH, 0, XF_KEYS_AUTO, &got);
    expected.out[0] = want->out[sequence] + from * c->a.out_stride;
    expected.lse[0] = want->lse[sequence] + from * c->a.q_heads;
    expect_same(&part, "a chunk alone", xf_context_isa(context), &got, &expected);
    result_free(&got, 1);
  }
}

static void test_prefill_equals_decode(void **state)
{
  (void)state;
  struct rng rng = {3};
  struct call c;
  for (size_t i = 0; i < scaled(20); i++) {
    random_call(&rng, &c, i % 4 == 0 ? 1100 : 200);
    struct call_result want = result_new(&c);
    run_call(reference, &c, FLASH, 0, XF_KEYS_WHOLE, &want);
    for (size_t s = 0; s < c.a.n; s++) {
      check_chunks(&rng, &c, &want, s, 1);
      check_chunks(&rng, &c, &want, s, 30);
    }
    result_free(&want, c.a.n);
    call_free(&c);
  }
}

static void expect_last_value(const struct call *c, const char *isa, size_t head, const float *out,
                              const float *v)
{
  size_t d_v = c->a.kv.d_v, kv_head = head / (c->a.q_heads / c->a.kv_heads);
  for (size_t d = 0; d < d_v; d++) {
    double want = (double)v[kv_head * d_v + d];
    /* p·v, 1/p and their product round. */
    expect_near("value of the last key", isa, out[d], want, 0x1p-22 * fabs(want));
  }
}

/* A decode step whose query is the cache's last position: it must attend to all keys, the last one
 * too. That one gets the greatest score by far, so its value must come out. */
static void test_last_slot(void **state)
{
  (void)state;
  struct rng rng = {4};
  struct call c;
  random_heads(&rng, &c, 24);
  c.a.causal = true;
  c.a.scale = 1;
  size_t kv_len = 7 * c.a.kv.page_len, d_k = c.a.kv.d_k, d_v = c.a.kv.d_v;
  add_sequence(&rng, &c, FILL_NORMAL, kv_len - 1, 1, kv_len);
  float *k = c.data[0].k + (kv_len - 1) * c.a.kv_heads * d_k, *v = c.data[0].v;
  v += (kv_len - 1) * c.a.kv_heads * d_v;
  for (size_t i = 0; i < c.a.q_heads * d_k; i++) c.data[0].q[i] = 3;
  for (size_t i = 0; i < c.a.kv_heads * d_k; i++) k[i] = 1000;
  xf_kv_write(&xf_kernels_scalar, &c.a.kv, c.a.kv_heads, c.data[0].pages, kv_len - 1, k, v);
  this_case("last slot of %zu", kv_len);
  struct call_result got = result_new(&c);
  for (size_t i = 0; i < n_contexts; i++) {
    for (int kind = FLASH; kind <= STANDARD; kind++) {
      run_call(contexts[i], &c, kind, 0, XF_KEYS_AUTO, &got);
      for (size_t head = 0; head < c.a.q_heads; head++)
        expect_last_value(&c, xf_context_isa(contexts[i]), head, got.out[0] + head * d_v, v);
    }
  }
  result_free(&got, 1);
  call_free(&c);
}

/* What was written to a position is read back, and nothing else has changed. */
static void test_kv_round_trip(void **state)
{
  (void)state;
  struct rng rng = {5};
  struct call c;
  float k[4 * MOST_D], v[4 * MOST_D];
  for (size_t i = 0; i < scaled(20); i++) {
    random_heads(&rng, &c, MOST_D);
    size_t kv_len = 1 + rng_below(&rng, 200);
    size_t n_k = c.a.kv_heads * c.a.kv.d_k, n_v = c.a.kv_heads * c.a.kv.d_v;
    add_sequence(&rng, &c, FILL_SPECIAL, 0, 1, kv_len);
    name_case(&c, i);
    for (size_t position = 0; position < kv_len; position++) {
      xf_kv_read(&xf_kernels_scalar, &c.a.kv, c.a.kv_heads, c.data[0].pages, position, k, v);
      expect_bits("k read back", "any", k, c.data[0].k + position * n_k, n_k);
      expect_bits("v read back", "any", v, c.data[0].v + position * n_v, n_v);
    }
    call_free(&c);
  }
}

/* The library's own threads. */
static void test_own_pool(void **state)
{
  (void)state;
  struct rng rng = {6};
  struct call c;
  xf_context *pool = context_new(NULL, 3, NULL);
  for (size_t i = 0; i < scaled(20); i++) {
    random_call(&rng, &c, i % 4 ? 100 : 1700);
    struct call_result want = result_new(&c), got = result_new(&c);
    run_call(reference, &c, FLASH, 0, XF_KEYS_WHOLE, &want);
    run_call(pool, &c, FLASH, 0, i % 2 ? XF_KEYS_AUTO : XF_KEYS_SPLIT, &got);
    expect_same(&c, "flash on the own pool", xf_context_isa(pool), &got, &want);
    result_free(&want, c.a.n);
    result_free(&got, c.a.n);
    call_free(&c);
  }
  xf_context_destroy(pool);
}

static void test_q_block_policy(void **state)
{
  (void)state;
  static const size_t lengths[][2] = {{1, 32},   {191, 32},  {192, 64},
                                      {767, 64}, {768, 256}, {9999, 256}};
  static const uint32_t tuned[XF_Q_BLOCK_CLASSES] = {16, 0, 128};
  for (size_t i = 0; i < 6; i++) {
    size_t want = i < 2 ? 16 : i < 4 ? 64 : 128;
    assert_int_equal(xf_attention_q_block(NULL, lengths[i][0]), lengths[i][1]);
    assert_int_equal(xf_attention_q_block(tuned, lengths[i][0]), want);
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_random_calls),   cmocka_unit_test(test_block_edges),
      cmocka_unit_test(test_last_slot),      cmocka_unit_test(test_prefill_equals_decode),
      cmocka_unit_test(test_kv_round_trip),  cmocka_unit_test(test_own_pool),
      cmocka_unit_test(test_q_block_policy), cmocka_unit_test(test_required_isas)};
  return cmocka_run_group_tests_name("attention operator", tests, contexts_set_up,
                                     contexts_tear_down);
}
