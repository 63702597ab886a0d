/* Operator boundaries: what a host is told, that a built-in operator run by it or one of its own in
 * its place gives the model's bits, and what happens when it fails. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/compare.h"
#include "tests/model_support.h"
#include "tests/support.h"

enum { FIRST = 21, SECOND = 530, VOCAB = 133, MOST = 400 };

static char *folder_path;

/* What a boundary does, and what it saw. */
struct host {
  xf_context *context;
  xf_model *model;
  unsigned replaces; /* bits of kinds that it computes itself */
  size_t fails_at;   /* call that fails; 0: none */
  xf_status failure;
  size_t n;
  struct {
    xf_operator_kind kind;
    const char *name, *tensor;
    int32_t layer;
    int64_t rows, first_position, last_position;
  } seen[MOST];
};

static int64_t rows_of(const xf_operator *op)
{
  if (op->kind == XF_OPERATOR_ATTENTION) return op->attention->q.shape[1];
  return op->y.shape[0];
}

static xf_status replace_attention(const struct host *host, const xf_operator *op, xf_error *error)
{
  xf_attention_desc desc = *op->attention;
  size_t bytes, n = (size_t)(desc.kv.k.shape[1] * desc.kv.k.shape[2] * desc.kv.k.shape[3]);
  float *k = new_floats(n), *v = new_floats(n);
  assert_int_equal(xf_operator_keys(op, k, v), XF_OK);
  desc.kv.k.data = k;
  desc.kv.v.data = v;
  xf_status status = xf_attention_workspace(host->context, &desc, 0, &bytes, error);
  void *workspace = aligned_alloc(64, (bytes + 63) / 64 * 64 + 64);
  if (!status) status = xf_attention(host->context, &desc, workspace, bytes, error);
  free(workspace);
  free(k);
  free(v);
  return status;
}

static xf_status replace_linear(const struct host *host, const xf_operator *op, xf_error *error)
{
  size_t bytes = xf_linear_workspace(host->context, op->weight, (size_t)op->x.shape[0]);
  void *workspace = aligned_alloc(64, (bytes + 63) / 64 * 64);
  xf_status status = xf_linear_run(host->context, op->weight, XF_ACTIVATIONS_INT8, &op->x, &op->y,
                                   workspace, bytes, error);
  free(workspace);
  return status;
}

static xf_status replace_rope(const struct host *host, const xf_operator *op, xf_error *error)
{
  xf_status status = xf_rope(host->context, &op->x, op->positions, op->inv_freq, error);
  return status ? status : xf_rope(host->context, &op->y, op->positions, op->inv_freq, error);
}

static xf_status boundary(void *arg, const xf_operator *op, xf_error *error)
{
  struct host *host = arg;
  assert_true(host->n < MOST);
  assert_int_equal(op->struct_size, sizeof *op);
  int64_t rows = rows_of(op);
  host->seen[host->n].kind = op->kind;
  host->seen[host->n].name = op->name;
  host->seen[host->n].tensor = op->tensor;
  host->seen[host->n].layer = op->layer;
  host->seen[host->n].rows = rows;
  host->seen[host->n].first_position = op->positions[0];
  host->seen[host->n].last_position = op->positions[rows - 1];
  host->n++;
  if (host->n == host->fails_at) return host->failure;
  if (!(host->replaces & op->kind)) return xf_operator_run(op, error);
  switch (op->kind) {
  case XF_OPERATOR_ATTENTION: return replace_attention(host, op, error);
  case XF_OPERATOR_LINEAR: return replace_linear(host, op, error);
  case XF_OPERATOR_RMS_NORM:
    return xf_rms_norm(host->context, &op->x, op->gain, op->eps, &op->y, error);
  case XF_OPERATOR_ROPE: return replace_rope(host, op, error);
  case XF_OPERATOR_SILU_MUL: return xf_silu_mul(host->context, &op->x, &op->y, &op->x, error);
  default: return XF_E_UNSUPPORTED;
  }
}

static void host_open(struct host *host, uint64_t boundaries)
{
  host->context = open_context(NULL, 2);
  xf_model_options options = {.struct_size = sizeof options,
                              .boundary = boundary,
                              .boundary_arg = host,
                              .boundaries = boundaries};
  host->model = open_model(host->context, folder_path, &options);
}

static void host_close(struct host *host)
{
  xf_model_close(host->model);
  xf_context_destroy(host->context);
}

/* Two sequences in one call, then a token of each: logits of the last positions. */
static void run_both(const xf_model *model, float *out)
{
  xf_cache *caches[2] = {new_cache(model, FIRST + 1), new_cache(model, SECOND + 1)};
  int32_t *ids = random_ids(9, SECOND + 1, VOCAB);
  xf_error error = {0};
  xf_sequence whole[2] = {{caches[0], ids, FIRST, XF_LOGITS_ALL, out},
                          {caches[1], ids, SECOND, XF_LOGITS_LAST, out + FIRST * VOCAB}};
  expect_ok(xf_forward(model, whole, 2, &error), &error);
  out += (FIRST + 1) * VOCAB;
  xf_sequence next[2] = {{caches[0], ids + FIRST, 1, XF_LOGITS_LAST, out},
                         {caches[1], ids + SECOND, 1, XF_LOGITS_LAST, out + VOCAB}};
  expect_ok(xf_forward(model, next, 2, &error), &error);
  free(ids);
  xf_cache_destroy(caches[0]);
  xf_cache_destroy(caches[1]);
}

enum { OUT = (FIRST + 3) * VOCAB };

/* The bits without boundaries. */
static float *wanted(void)
{
  float *out = new_floats(OUT);
  xf_context *context = open_context(NULL, 1);
  xf_model *model = open_model(context, folder_path, NULL);
  run_both(model, out);
  xf_model_close(model);
  xf_context_destroy(context);
  return out;
}

/* Each operator of the host in turn, then all together, and none. */
static void test_same_bits(void **state)
{
  (void)state;
  static const unsigned replaces[] = {0,
                                      XF_OPERATOR_ATTENTION,
                                      XF_OPERATOR_LINEAR,
                                      XF_OPERATOR_RMS_NORM,
                                      XF_OPERATOR_ROPE,
                                      XF_OPERATOR_SILU_MUL,
                                      15 + XF_OPERATOR_SILU_MUL};
  float *want = wanted(), *got = new_floats(OUT);
  for (size_t i = 0; i < sizeof replaces / sizeof *replaces; i++)
    for (int all = 0; all < 2; all++) {
      struct host *host = calloc(1, sizeof *host);
      host->replaces = replaces[i];
      host_open(host, all ? 0 : replaces[i]);
      run_both(host->model, got);
      assert_memory_equal(got, want, OUT * sizeof *got);
      assert_true(host->n > 0);
      host_close(host);
      free(host);
    }
  free(want);
  free(got);
}

static void expect_seen(const struct host *host, size_t i, const char *name, const char *tensor,
                        int32_t layer, int64_t rows, int64_t first, int64_t last)
{
  char got[200], want[200];
  assert_true(i < host->n);
  snprintf(got, sizeof got, "%s %s of layer %d, %d rows, positions %d … %d", host->seen[i].name,
           host->seen[i].tensor, (int)host->seen[i].layer, (int)host->seen[i].rows,
           (int)host->seen[i].first_position, (int)host->seen[i].last_position);
  snprintf(want, sizeof want, "%s %s of layer %d, %d rows, positions %d … %d", name, tensor,
           (int)layer, (int)rows, (int)first, (int)last);
  assert_string_equal(got, want);
}

/* Every operator in its order: a chunk of 512 rows holds all of the first and the beginning of the
 * second sequence. */
static void test_what_is_told(void **state)
{
  (void)state;
  static const char *const layer[][2] = {{"rms_norm", "attention_norm"},
                                         {"linear", "qkv"},
                                         {"rotary_embedding", "rope"},
                                         {"kv_write", "kv"},
                                         {"scaled_dot_product_attention", "attention"},
                                         {"scaled_dot_product_attention", "attention"},
                                         {"linear", "o"},
                                         {"add", "residual"},
                                         {"rms_norm", "mlp_norm"},
                                         {"linear", "gate_up"},
                                         {"silu_mul", "silu_mul"},
                                         {"linear", "down"},
                                         {"add", "residual"}};
  struct host *host = calloc(1, sizeof *host);
  float *out = new_floats(OUT);
  host_open(host, 0);
  run_both(host->model, out);
  int64_t cut = 512 - FIRST; /* of the second sequence */
  expect_seen(host, 0, "embedding", "embedding", -1, 512, 0, cut - 1);
  for (size_t i = 0; i < 13; i++) {
    bool attention = i == 4 || i == 5;
    int64_t rows = i == 4 ? FIRST : i == 5 ? cut : 512;
    int64_t last = i == 4 ? FIRST - 1 : cut - 1;
    /* The last "add" belongs to the next layer's norm. */
    expect_seen(host, 1 + i, layer[i][0], layer[i][1], i == 12, attention ? rows : 512, 0, last);
  }
  /* The last step: a token of each. */
  size_t n = host->n;
  expect_seen(host, n - 1, "linear", "head", -1, 2, FIRST, SECOND);
  expect_seen(host, n - 2, "rms_norm", "norm", -1, 2, FIRST, SECOND);
  expect_seen(host, n - 10, "scaled_dot_product_attention", "attention", 1, 1, SECOND, SECOND);
  expect_seen(host, n - 11, "scaled_dot_product_attention", "attention", 1, 1, FIRST, FIRST);
  host_close(host);
  free(host);
  free(out);
}

static void test_chosen_ones(void **state)
{
  (void)state;
  float *out = new_floats(OUT);
  for (unsigned kind = 1; kind <= XF_OPERATOR_KV_WRITE; kind *= 2) {
    struct host *host = calloc(1, sizeof *host);
    host_open(host, kind);
    run_both(host->model, out);
    assert_true(host->n > 0);
    for (size_t i = 0; i < host->n; i++) assert_int_equal(host->seen[i].kind, kind);
    host_close(host);
    free(host);
  }
  free(out);
}

/* A failure at any place ends the call, changes no cache, and is over with the next call. */
static void test_failures(void **state)
{
  (void)state;
  struct host *host = calloc(1, sizeof *host);
  host_open(host, 0);
  xf_cache *cache = new_cache(host->model, 8);
  int32_t ids[] = {1, 2, 3};
  float want[VOCAB], got[VOCAB];
  host->failure = XF_E_CANCELLED;
  run(host->model, cache, ids, 3, XF_LOGITS_LAST, want);
  size_t calls = host->n;
  for (size_t at = 1; at <= calls; at++) {
    xf_error error = {0};
    xf_sequence sequence = {cache, ids, 3, XF_LOGITS_LAST, got};
    xf_cache_truncate(cache, 0);
    host->n = 0;
    host->fails_at = at;
    xf_status status = xf_forward(host->model, &sequence, 1, &error);
    assert_int_equal(host->n, at);
    assert_non_null(strstr(error.message, "boundary of "));
    expect_status(status, XF_E_CANCELLED, &error);
    assert_int_equal(xf_cache_length(cache), 0);
    host->n = host->fails_at = 0;
    run(host->model, cache, ids, 3, XF_LOGITS_LAST, got);
    assert_memory_equal(got, want, sizeof want);
  }
  xf_cache_destroy(cache);
  host_close(host);
  free(host);
}

static xf_status misuse(void *arg, const xf_operator *op, xf_error *error)
{
  float x;
  (void)arg;
  if (op->kind != XF_OPERATOR_ATTENTION)
    assert_int_equal(xf_operator_keys(op, &x, &x), XF_E_ARGUMENT);
  else
    assert_int_equal(xf_operator_keys(op, NULL, &x), XF_E_ARGUMENT);
  return xf_operator_run(op, error);
}

static void test_misuse(void **state)
{
  (void)state;
  xf_error error = {0};
  float x;
  assert_int_equal(xf_operator_keys(NULL, &x, &x), XF_E_ARGUMENT);
  expect_status(xf_operator_run(NULL, &error), XF_E_ARGUMENT, &error);
  xf_context *context = open_context(NULL, 1);
  xf_model_options options = {.struct_size = sizeof options, .boundary = misuse};
  xf_model *model = open_model(context, folder_path, &options);
  xf_cache *cache = new_cache(model, 4);
  run(model, cache, (const int32_t[]){1}, 1, XF_LOGITS_NONE, NULL);
  xf_cache_destroy(cache);
  xf_model_close(model);
  xf_context_destroy(context);
}

struct watched {
  _Atomic size_t begun[3], ended[3];
};

static void observe(void *arg, uint32_t slot, int begins)
{
  struct watched *watched = arg;
  assert_true(slot < 3);
  (*(begins ? &watched->begun : &watched->ended))[slot]++;
}

/* Every thread tells of each of its parts. */
static void test_observer(void **state)
{
  (void)state;
  struct watched watched = {0};
  xf_context *context;
  xf_error error = {0};
  xf_context_options options = {
      .struct_size = sizeof options, .threads = 3, .observer = observe, .observer_arg = &watched};
  expect_ok(xf_context_create(&options, &context, &error), &error);
  xf_model *model = open_model(context, folder_path, NULL);
  float *want = wanted(), *got = new_floats(OUT);
  run_both(model, got);
  assert_memory_equal(got, want, OUT * sizeof *got);
  assert_true(watched.begun[0] + watched.begun[1] + watched.begun[2] > 20);
  for (size_t i = 0; i < 3; i++) assert_int_equal(watched.begun[i], watched.ended[i]);
  xf_model_close(model);
  xf_context_destroy(context);
  free(want);
  free(got);
}

static int write_model(void **state)
{
  (void)state;
  struct tiny_model tiny = tiny_model_grouped();
  assert_int_equal(tiny.vocab, VOCAB);
  folder_path = write_tiny_model(&tiny);
  return 0;
}

static int forget_model(void **state)
{
  (void)state;
  free(folder_path);
  return 0;
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_same_bits),   cmocka_unit_test(test_what_is_told),
      cmocka_unit_test(test_chosen_ones), cmocka_unit_test(test_failures),
      cmocka_unit_test(test_misuse),      cmocka_unit_test(test_observer),
  };
  return cmocka_run_group_tests(tests, write_model, forget_model);
}
