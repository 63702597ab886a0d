/* xf_forward: what it refuses, and that a sequence's logits depend on that sequence alone. The bits
 * over ISAs, threads, chunks and batches are test_bits.c's. */
#include <fenv.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "tests/compare.h"
#include "tests/host_pool.h"
#include "tests/isas.h"
#include "tests/model_support.h"

enum { LENGTH = 70, VOCAB = 61 };

static struct tiny_model small(void)
{
  return (struct tiny_model){.hidden = 36,
                             .intermediate = 52,
                             .layers = 2,
                             .heads = 4,
                             .kv_heads = 2,
                             .head_dim = 12,
                             .vocab = VOCAB,
                             .seed = 3};
}

/* What most tests here use: a model on two threads, LENGTH ids and their logits. */
struct rig {
  char *folder;
  xf_context *context;
  xf_model *model;
  int32_t *ids;
  float *want; /* [LENGTH, VOCAB] */
};

static int rig_open(void **state)
{
  struct rig *rig = calloc(1, sizeof *rig);
  assert_non_null(rig);
  struct tiny_model tiny = small();
  rig->folder = write_tiny_model(&tiny);
  rig->context = open_context(NULL, 2);
  rig->model = open_model(rig->context, rig->folder, NULL);
  rig->ids = random_ids(1, LENGTH, VOCAB);
  rig->want = new_floats((size_t)LENGTH * VOCAB);
  xf_cache *cache = new_cache(rig->model, LENGTH);
  run(rig->model, cache, rig->ids, LENGTH, XF_LOGITS_ALL, rig->want);
  xf_cache_destroy(cache);
  *state = rig;
  return 0;
}

static int rig_close(void **state)
{
  struct rig *rig = *state;
  xf_model_close(rig->model);
  xf_context_destroy(rig->context);
  free(rig->want);
  free(rig->ids);
  free(rig->folder);
  free(rig);
  return 0;
}

static void expect_rows(const struct rig *rig, size_t first, size_t rows, const float *got)
{
  assert_memory_equal(got, rig->want + first * VOCAB, rows * VOCAB * sizeof *got);
}

/* The call must fail so, for the second of its two sequences, and leave both caches alone. */
static void expect_refused(const struct rig *rig, const xf_sequence *bad, xf_status status)
{
  float logits[2 * VOCAB];
  xf_error error = {0};
  xf_cache *good = new_cache(rig->model, 8);
  run(rig->model, good, rig->ids, 3, XF_LOGITS_NONE, NULL);
  xf_sequence calls[2] = {{good, rig->ids + 3, 2, XF_LOGITS_ALL, logits}, *bad};
  size_t length = bad->cache ? xf_cache_length(bad->cache) : 0;
  expect_status(xf_forward(rig->model, calls, 2, &error), status, &error);
  assert_int_equal(xf_forward(rig->model, calls, 2, NULL), status);
  assert_int_equal(xf_cache_length(good), 3);
  if (bad->cache) assert_int_equal(xf_cache_length(bad->cache), length);
  run(rig->model, good, rig->ids + 3, 2, XF_LOGITS_ALL, logits);
  expect_rows(rig, 3, 2, logits);
  xf_cache_destroy(good);
}

static void test_arguments(void **state)
{
  const struct rig *rig = *state;
  float logits[VOCAB];
  int32_t high[] = {0, VOCAB}, low[] = {-1, 0};
  xf_error error = {0};
  xf_cache *cache = new_cache(rig->model, 4);
  xf_model *other = open_model(rig->context, rig->folder, NULL);
  xf_cache *others = new_cache(other, 4);
  const xf_sequence ok = {cache, rig->ids, 2, XF_LOGITS_LAST, logits};
  xf_sequence bad[10];
  for (size_t i = 0; i < 10; i++) bad[i] = ok;
  bad[0].cache = NULL;
  bad[1].cache = others;
  bad[2].tokens = NULL;
  bad[3].n_tokens = 0;
  bad[4].out = NULL;
  bad[5].tokens = high;
  bad[6].tokens = low;
  bad[7].logits = (xf_logits)3;
  bad[8].logits = XF_LOGITS_ALL, bad[8].out = NULL;
  bad[9].n_tokens = 5;
  for (size_t i = 0; i < 10; i++)
    expect_refused(rig, &bad[i], i == 9 ? XF_E_CACHE_FULL : XF_E_ARGUMENT);
  bad[9].n_tokens = SIZE_MAX;
  bad[9].tokens = low; /* wrong at once: those behind are not read */
  expect_refused(rig, &bad[9], XF_E_ARGUMENT);
  expect_status(xf_forward(NULL, &ok, 1, &error), XF_E_ARGUMENT, &error);
  expect_status(xf_forward(rig->model, NULL, 1, &error), XF_E_ARGUMENT, &error);
  assert_int_equal(xf_forward(rig->model, NULL, 0, &error), XF_OK);
  xf_sequence twice[] = {ok, {cache, rig->ids, 1, XF_LOGITS_NONE, NULL}};
  expect_status(xf_forward(rig->model, twice, 2, &error), XF_E_ARGUMENT, &error);
  assert_int_equal(xf_cache_length(cache), 0);
  xf_cache_destroy(others);
  xf_model_close(other);
  xf_cache_destroy(cache);
}

static void expect_options_refused(const struct rig *rig, xf_model_options options)
{
  xf_error error = {0};
  xf_model *model = rig->model;
  expect_status(xf_model_open(rig->context, rig->folder, &options, &model, &error), XF_E_ARGUMENT,
                &error);
  assert_null(model);
}

static void test_model_options(void **state)
{
  const struct rig *rig = *state;
  const size_t size = sizeof(xf_model_options);
  xf_error error = {0};
  xf_model *model = NULL;
  expect_options_refused(rig, (xf_model_options){.struct_size = 0});
  expect_options_refused(rig, (xf_model_options){.struct_size = size + 1});
  expect_options_refused(rig, (xf_model_options){.struct_size = size, .attention = 3});
  expect_options_refused(rig, (xf_model_options){.struct_size = size, .split = 3});
  expect_options_refused(rig, (xf_model_options){.struct_size = size, .q_block = UINT32_MAX});
  expect_options_refused(rig, (xf_model_options){.struct_size = size, .chunk = UINT32_MAX});
  expect_status(xf_model_open(NULL, rig->folder, NULL, &model, &error), XF_E_ARGUMENT, &error);
  expect_status(xf_model_open(rig->context, NULL, NULL, &model, &error), XF_E_ARGUMENT, &error);
  expect_status(xf_model_open(rig->context, rig->folder, NULL, NULL, &error), XF_E_ARGUMENT,
                &error);
  /* An older caller's struct ends before `progress`. */
  xf_model_options older = {.struct_size = offsetof(xf_model_options, progress), .chunk = 7};
  xf_model_close(open_model(rig->context, rig->folder, &older));
}

/* Which rows are wanted changes none of them, and nothing else is written. */
static void test_logits_kinds(void **state)
{
  const struct rig *rig = *state;
  xf_cache *cache[3];
  float out[3][10 * VOCAB];
  memset(out, 0xA5, sizeof out);
  for (size_t i = 0; i < 3; i++) cache[i] = new_cache(rig->model, LENGTH);
  xf_sequence calls[] = {{cache[0], rig->ids, 9, XF_LOGITS_LAST, out[0]},
                         {cache[1], rig->ids, 5, XF_LOGITS_NONE, NULL},
                         {cache[2], rig->ids, 8, XF_LOGITS_ALL, out[2]}};
  xf_error error = {0};
  expect_ok(xf_forward(rig->model, calls, 3, &error), &error);
  expect_rows(rig, 8, 1, out[0]);
  expect_rows(rig, 0, 8, out[2]);
  for (size_t i = VOCAB; i < 10 * VOCAB; i++) assert_memory_equal(&out[0][i], out[1], 4);
  for (size_t i = 8 * VOCAB; i < 10 * VOCAB; i++) assert_memory_equal(&out[2][i], out[1], 4);
  run(rig->model, cache[1], rig->ids + 5, 3, XF_LOGITS_ALL, out[1]);
  expect_rows(rig, 5, 3, out[1]);
  for (size_t i = 0; i < 3; i++) xf_cache_destroy(cache[i]);
}

/* The last rows alone, of prompts that end in different passes, whose keys may be split then. */
static void test_last_logits(void **state)
{
  enum { N = 1100, SEQUENCES = 3 };
  const struct rig *rig = *state;
  static const size_t lengths[SEQUENCES] = {N, 700, 530};
  int32_t *ids = random_ids(6, N, VOCAB);
  float *want = new_floats((size_t)N * VOCAB), out[SEQUENCES][VOCAB];
  xf_cache *cache = new_cache(rig->model, N);
  run(rig->model, cache, ids, N, XF_LOGITS_ALL, want);
  xf_cache_destroy(cache);
  for (uint32_t i = 0; i < 6; i++) {
    xf_model_options options = {.struct_size = sizeof options,
                                .chunk = i < 3 ? 96 : 2 * N,
                                .split = (xf_attention_split)(i % 3)};
    xf_model *model = open_model(rig->context, rig->folder, &options);
    xf_sequence calls[SEQUENCES];
    for (size_t s = 0; s < SEQUENCES; s++)
      calls[s] = (xf_sequence){new_cache(model, N), ids, lengths[s], XF_LOGITS_LAST,
                               out[SEQUENCES - 1 - s]};
    xf_error error = {0};
    expect_ok(xf_forward(model, calls, SEQUENCES, &error), &error);
    for (size_t s = 0; s < SEQUENCES; s++) {
      assert_memory_equal(calls[s].out, want + (lengths[s] - 1) * VOCAB, sizeof out[s]);
      xf_cache_destroy(calls[s].cache);
    }
    xf_model_close(model);
  }
  free(want);
  free(ids);
}

/* A sequence whose past is NaN stands before and behind another one, as prefill and as decode. */
static void test_no_leaks(void **state)
{
  const struct rig *rig = *state;
  xf_cache *cache[3];
  float out[3][20 * VOCAB];
  xf_error error = {0};
  for (size_t i = 0; i < 3; i++) cache[i] = new_cache(rig->model, LENGTH);
  run(rig->model, cache[0], rig->ids, 20, XF_LOGITS_NONE, NULL);
  struct exported nans = export_cache(rig->model, cache[0], 20);
  for (size_t i = 0; i < nans.layers * nans.floats; i++)
    nans.k[i / nans.floats][i % nans.floats] = nans.v[i / nans.floats][i % nans.floats] = NAN;
  for (size_t i = 0; i < 3; i += 2)
    expect_ok(xf_cache_import(cache[i], 20, (const float *const *)nans.k,
                              (const float *const *)nans.v, &error),
              &error);
  for (size_t done = 0, take = 19; done < 30; done += take, take = 1) {
    xf_sequence calls[3];
    for (size_t i = 0; i < 3; i++)
      calls[i] = (xf_sequence){cache[i], rig->ids + done, i ? take : 1, XF_LOGITS_ALL, out[i]};
    expect_ok(xf_forward(rig->model, calls, 3, &error), &error);
    assert_true(isnan(out[0][0]) && isnan(out[2][0]));
    expect_rows(rig, done, take, out[1]);
  }
  /* Nor from what stood in the same cache before: neither in this page nor in the next ones. */
  xf_cache_truncate(cache[0], 0);
  run(rig->model, cache[0], rig->ids, 17, XF_LOGITS_ALL, out[0]);
  expect_rows(rig, 0, 17, out[0]);
  exported_free(&nans);
  for (size_t i = 0; i < 3; i++) xf_cache_destroy(cache[i]);
}

/* Runs the whole sequence in steps of `step` and compares. */
static void expect_sequence(const struct rig *rig, const xf_model *model, size_t step)
{
  float *out = new_floats((size_t)LENGTH * VOCAB);
  xf_cache *cache = new_cache(model, LENGTH);
  for (size_t done = 0; done < LENGTH; done += step) {
    size_t n = done + step < LENGTH ? step : LENGTH - done;
    run(model, cache, rig->ids + done, n, XF_LOGITS_ALL, out + done * VOCAB);
  }
  expect_rows(rig, 0, LENGTH, out);
  xf_cache_destroy(cache);
  free(out);
}

struct caller {
  const struct rig *rig;
  size_t step;
};

static void *call(void *arg)
{
  const struct caller *caller = arg;
  for (int i = 0; i < 3; i++) expect_sequence(caller->rig, caller->rig->model, caller->step);
  return NULL;
}

/* Several threads, one model, a cache each. */
static void test_concurrent_calls(void **state)
{
  enum { CALLERS = 4 };
  struct caller callers[CALLERS];
  pthread_t threads[CALLERS];
  for (size_t i = 0; i < CALLERS; i++) {
    callers[i] = (struct caller){*state, 3 + 8 * i};
    assert_int_equal(pthread_create(&threads[i], NULL, call, &callers[i]), 0);
  }
  for (size_t i = 0; i < CALLERS; i++) assert_int_equal(pthread_join(threads[i], NULL), 0);
}

struct serial {
  size_t loops, most;
};

/* A host's loop may run the indices one after another, in any order. */
static void run_backwards(void *pool, size_t n, xf_task task, void *arg)
{
  struct serial *serial = pool;
  serial->loops++;
  if (n > serial->most) serial->most = n;
  for (size_t i = n; i-- > 0;) task(arg, i);
}

static void test_host_loops(void **state)
{
  const struct rig *rig = *state;
  struct serial serial = {0};
  xf_context_options options = {
      .struct_size = sizeof options, .threads = 3, .parallel_for = run_backwards, .pool = &serial};
  xf_context *backwards = NULL;
  xf_error error = {0};
  expect_ok(xf_context_create(&options, &backwards, &error), &error);
  struct host_pool *pool = host_pool_create(4);
  xf_context *contexts[] = {backwards, open_host_context(NULL, 4, pool)};
  for (size_t i = 0; i < 2; i++) {
    xf_model *model = open_model(contexts[i], rig->folder, NULL);
    expect_sequence(rig, model, LENGTH);
    expect_sequence(rig, model, 1);
    xf_model_close(model);
    xf_context_destroy(contexts[i]);
  }
  assert_true(serial.loops > 0);
  assert_int_equal(serial.most, 3);
  host_pool_destroy(pool);
}

/* The caller's floating-point environment neither matters nor changes. */
static void test_rounding(void **state)
{
  const struct rig *rig = *state;
  assert_int_equal(fesetround(FE_UPWARD), 0);
  expect_sequence(rig, rig->model, 9);
  assert_int_equal(fegetround(), FE_UPWARD);
  assert_int_equal(fesetround(FE_TONEAREST), 0);
}

static float max_difference(const float *a, const float *b, size_t n)
{
  float most = 0;
  for (size_t i = 0; i < n; i++) most = fmaxf(most, fabsf(a[i] - b[i]));
  return most;
}

/* The two attentions differ by roundings alone, as prefill and as decode. */
static void test_standard_attention(void **state)
{
  (void)state;
  enum { N = 130, LAST = 20 };
  struct tiny_model tiny = tiny_model_ragged();
  char *folder = write_tiny_model(&tiny);
  int32_t *ids = random_ids(4, N, tiny.vocab);
  float *logits[2] = {new_floats(N * tiny.vocab), new_floats(N * tiny.vocab)};
  for (const struct xf_kernels *k = NULL; (k = next_isa(k));) {
    xf_context *context = open_context(k->name, 1);
    for (int i = 0; i < 2; i++) {
      xf_model_options options = {.struct_size = sizeof options,
                                  .attention = i ? XF_ATTENTION_STANDARD : XF_ATTENTION_FLASH};
      xf_model *model = open_model(context, folder, &options);
      xf_cache *cache = new_cache(model, N);
      run(model, cache, ids, N - LAST, XF_LOGITS_ALL, logits[i]);
      for (size_t t = N - LAST; t < N; t++)
        run(model, cache, ids + t, 1, XF_LOGITS_LAST, logits[i] + t * tiny.vocab);
      xf_cache_destroy(cache);
      xf_model_close(model);
    }
    size_t prefill = (N - LAST) * tiny.vocab, decode = LAST * tiny.vocab;
    float of_prefill = max_difference(logits[0], logits[1], prefill);
    float of_decode = max_difference(logits[0] + prefill, logits[1] + prefill, decode);
    if (!(of_prefill < 3e-5f && of_decode < 1e-4f))
      fail_msg("%s: %g in prefill, %g in decode", k->name, (double)of_prefill, (double)of_decode);
    xf_context_destroy(context);
  }
  free(logits[0]);
  free(logits[1]);
  free(ids);
  free(folder);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_arguments),          cmocka_unit_test(test_model_options),
      cmocka_unit_test(test_logits_kinds),       cmocka_unit_test(test_last_logits),
      cmocka_unit_test(test_no_leaks),           cmocka_unit_test(test_concurrent_calls),
      cmocka_unit_test(test_host_loops),         cmocka_unit_test(test_rounding),
      cmocka_unit_test(test_standard_attention), cmocka_unit_test(test_required_isas),
  };
  return cmocka_run_group_tests(tests, rig_open, rig_close);
}
