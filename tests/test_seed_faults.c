/* Faults of the system that exactflash re-creates, each a test by its name: docs/migration.md. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/model_support.h"
#include "tests/support.h"

enum { D = 16 };

/* One sequence's attention over plain views. */
struct problem {
  size_t heads, kv_heads, q_len, kv_len;
  float *q, *k, *v; /* [q_len, heads, D], [kv_len, kv_heads, D] */
};

static struct problem new_problem(size_t heads, size_t kv_heads, size_t q_len, size_t kv_len)
{
  struct rng rng = {kv_len + heads};
  struct problem p = {heads, kv_heads, q_len, kv_len, NULL, NULL, NULL};
  p.q = new_floats(q_len * heads * D);
  p.k = new_floats(kv_len * kv_heads * D);
  p.v = new_floats(kv_len * kv_heads * D);
  fill_normal(&rng, q_len * heads * D, p.q);
  fill_normal(&rng, kv_len * kv_heads * D, p.k);
  fill_normal(&rng, kv_len * kv_heads * D, p.v);
  return p;
}

static void free_problem(struct problem *p)
{
  free(p->q);
  free(p->k);
  free(p->v);
}

static xf_view view(const float *data, size_t n, size_t heads)
{
  const int64_t row = (int64_t)(heads * D * sizeof(float));
  return (xf_view){.data = data,
                   .type = XF_F32,
                   .rank = 4,
                   .shape = {1, (int64_t)n, (int64_t)heads, D},
                   .stride = {row * (int64_t)n, row, D * sizeof(float), sizeof(float)}};
}

static xf_attention_desc describe(const struct problem *p, float *out)
{
  return (xf_attention_desc){
      .struct_size = sizeof(xf_attention_desc),
      .q = view(p->q, p->q_len, p->heads),
      .kv = {.k = view(p->k, p->kv_len, p->kv_heads), .v = view(p->v, p->kv_len, p->kv_heads)},
      .out = view(out, p->q_len, p->heads),
      .causal = 1};
}

static size_t workspace_of(const xf_context *context, const xf_attention_desc *desc)
{
  size_t bytes;
  xf_error error = {0};
  expect_ok(xf_attention_workspace(context, desc, 0, &bytes, &error), &error);
  return bytes;
}

static void attend(const xf_attention_desc *desc)
{
  xf_context *context = open_context(NULL, 2);
  size_t bytes = workspace_of(context, desc);
  void *workspace = aligned_alloc(64, (bytes + 127) / 64 * 64);
  xf_error error = {0};
  expect_ok(xf_attention(context, desc, workspace, bytes, &error), &error);
  free(workspace);
  xf_context_destroy(context);
}

/* The last slot's query must see every key, the first as the last; the seed's decode missed some
 * there. */
static void test_decode_into_the_last_cache_slot_attends_to_all_keys(void **state)
{
  (void)state;
  enum { CAPACITY = 33 };
  static const xf_attention_kind kinds[] = {XF_ATTENTION_FLASH, XF_ATTENTION_STANDARD};
  struct tiny_model tiny = tiny_model_smallest();
  char *path = write_tiny_model(&tiny);
  xf_context *context = open_context(NULL, 2);
  for (size_t kind = 0; kind < 2; kind++) {
    xf_model_options options = {.struct_size = sizeof options, .attention = kinds[kind]};
    xf_model *model = open_model(context, path, &options);
    xf_cache *full = new_cache(model, CAPACITY), *roomy = new_cache(model, 10 * CAPACITY);
    int32_t *ids = random_ids(8, CAPACITY, tiny.vocab);
    float last[20], want[20], other[20];
    run(model, full, ids, CAPACITY - 1, XF_LOGITS_NONE, NULL);
    run(model, full, ids + CAPACITY - 1, 1, XF_LOGITS_LAST, last);
    run(model, roomy, ids, CAPACITY, XF_LOGITS_LAST, want);
    assert_memory_equal(last, want, sizeof last);
    for (size_t changed = 0; changed < CAPACITY; changed += 16) {
      ids[changed] = (ids[changed] + 1) % 20;
      xf_cache_truncate(full, 0);
      run(model, full, ids, CAPACITY - 1, XF_LOGITS_NONE, NULL);
      run(model, full, ids + CAPACITY - 1, 1, XF_LOGITS_LAST, other);
      assert_true(memcmp(other, last, sizeof last) != 0);
      memcpy(last, other, sizeof last);
    }
    free(ids);
    xf_cache_destroy(full);
    xf_cache_destroy(roomy);
    xf_model_close(model);
  }
  xf_context_destroy(context);
  free(path);
}

/* Scores are capped before the softmax, as the formula says. */
static void test_soft_cap_is_not_ignored(void **state)
{
  (void)state;
  enum { KEYS = 9 };
  const double cap = 1.5;
  struct problem p = new_problem(1, 1, 1, KEYS);
  float capped[D], plain[D];
  xf_attention_desc desc = describe(&p, plain);
  attend(&desc);
  desc = describe(&p, capped);
  desc.soft_cap = (float)cap;
  attend(&desc);
  double weights[KEYS], sum = 0;
  for (size_t i = 0; i < KEYS; i++) {
    double score = 0;
    for (size_t j = 0; j < D; j++) score += (double)p.q[j] * (double)p.k[i * D + j];
    weights[i] = exp(cap * tanh(score / sqrt(D) / cap));
    sum += weights[i];
  }
  double apart = 0;
  for (size_t j = 0; j < D; j++) {
    double want = 0;
    for (size_t i = 0; i < KEYS; i++) want += weights[i] / sum * (double)p.v[i * D + j];
    assert_true(fabs((double)capped[j] - want) < 1e-5);
    apart = fmax(apart, fabs((double)plain[j] - want));
  }
  assert_true(apart > 1e-2);
  free_problem(&p);
}

/* One KV head serves 32 query heads: no memory holds its keys a second time. */
static void test_keys_and_values_are_not_copied_per_query_head(void **state)
{
  (void)state;
  struct problem p = new_problem(32, 1, 1, 8192);
  float out[32 * D];
  xf_attention_desc desc = describe(&p, out);
  xf_context *context = open_context(NULL, 2);
  size_t one_copy = p.kv_len * D * sizeof(float), bytes = workspace_of(context, &desc);
  assert_in_range(bytes, 1, 31 * one_copy / 8);
  desc.split = 1; /* with whole sequences of keys, memory does not follow their length at all */
  bytes = workspace_of(context, &desc);
  desc.kv.k.shape[1] = desc.kv.v.shape[1] = 4096;
  assert_int_equal(bytes, workspace_of(context, &desc));
  assert_in_range(bytes, 1, 2 * one_copy);
  xf_context_destroy(context);
  free_problem(&p);

  struct tiny_model tiny = tiny_model_ragged(); /* 4 query heads on 2 KV heads of 48 */
  char *path = write_tiny_model(&tiny);
  context = open_context(NULL, 1);
  xf_model *model = open_model(context, path, NULL);
  xf_cache *cache = new_cache(model, 512);
  run(model, cache, (const int32_t[]){1}, 1, XF_LOGITS_NONE, NULL);
  assert_int_equal(xf_cache_bytes(cache), (size_t)2 * 512 * 2 * 2 * 48 * sizeof(float));
  xf_cache_destroy(cache);
  xf_model_close(model);
  xf_context_destroy(context);
  free(path);
}

/* A large cache of which little is used costs what is used: what lies behind it is never touched.
 */
static void test_decode_cost_follows_the_used_length(void **state)
{
  (void)state;
  enum { USED = 37, CAPACITY = 1 << 20 };
  struct problem p = new_problem(4, 2, 1, USED);
  struct guarded k = guarded_new(USED * 2 * D * sizeof(float));
  struct guarded v = guarded_new(USED * 2 * D * sizeof(float));
  float want[4 * D], got[4 * D];
  const int64_t used = USED;
  memcpy(k.data, p.k, USED * 2 * D * sizeof(float));
  memcpy(v.data, p.v, USED * 2 * D * sizeof(float));
  xf_attention_desc desc = describe(&p, want);
  attend(&desc);
  desc = describe(&p, got);
  desc.kv.k = view(k.data, CAPACITY, 2);
  desc.kv.v = view(v.data, CAPACITY, 2);
  desc.kv.kv_len = &used;
  attend(&desc);
  assert_memory_equal(got, want, sizeof got);
  guarded_free(&k);
  guarded_free(&v);
  free_problem(&p);

  struct tiny_model tiny = tiny_model_smallest();
  char *path = write_tiny_model(&tiny);
  xf_context *context = open_context(NULL, 1);
  xf_model *model = open_model(context, path, NULL);
  xf_cache *small = new_cache(model, USED), *large = new_cache(model, CAPACITY);
  int32_t *ids = random_ids(1, USED, tiny.vocab);
  run(model, small, ids, USED, XF_LOGITS_NONE, NULL);
  run(model, large, ids, USED, XF_LOGITS_NONE, NULL);
  assert_int_equal(xf_cache_bytes(small), xf_cache_bytes(large));
  free(ids);
  xf_cache_destroy(small);
  xf_cache_destroy(large);
  xf_model_close(model);
  xf_context_destroy(context);
  free(path);
}

/* A chunk's queries stand where they stand in the sequence, wherever the keys end: each sees the
 * keys up to its own position, no more and no fewer. */
static void test_query_positions_are_absolute(void **state)
{
  (void)state;
  enum { KEYS = 700, FIRST = 509, QUERIES = 7, HEADS = 2 };
  struct problem p = new_problem(HEADS, 1, QUERIES, KEYS);
  float chunk[QUERIES * HEADS * D], alone[HEADS * D];
  const int64_t first = FIRST;
  xf_attention_desc desc = describe(&p, chunk);
  desc.q_first = &first;
  attend(&desc);
  for (size_t i = 0; i < QUERIES; i++) {
    struct problem one = p;
    one.q_len = 1;
    one.q = p.q + i * HEADS * D;
    one.kv_len = FIRST + i + 1; /* the query is the last position */
    desc = describe(&one, alone);
    attend(&desc);
    assert_memory_equal(chunk + i * HEADS * D, alone, sizeof alone);
  }
  free_problem(&p);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_decode_into_the_last_cache_slot_attends_to_all_keys),
      cmocka_unit_test(test_soft_cap_is_not_ignored),
      cmocka_unit_test(test_keys_and_values_are_not_copied_per_query_head),
      cmocka_unit_test(test_decode_cost_follows_the_used_length),
      cmocka_unit_test(test_query_positions_are_absolute),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
