/* The same bits everywhere: one set of logits over ISAs, threads, prefill chunks, batches, splits
 * of the keys and q-blocks. Every configuration is compared with the scalar kernels on one thread,
 * and those with the hashes in bits_numerics_<version>.txt, so that machines that share no ISA
 * compare, too. A line that changes is a new numerics version. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/fnv1a.h"
#include "tests/compare.h"
#include "tests/host_pool.h"
#include "tests/isas.h"
#include "tests/model_support.h"
#include "tests/quant_model.h"
#include "tests/quants.h"

enum { SEQUENCES = 3, ALL = 1 << 20 };

static const char definition[] = "scalar"; /* its ISA, on one thread */

/* A model and its sequences, of which each configuration computes the tokens from kept[i] on: the
 * earlier ones come from the reference, as an import of its cache. */
struct suite {
  const char *name, *path;
  xf_activations activations;
  size_t length[SEQUENCES], kept[SEQUENCES];
  bool attention;     /* also vary what only attention sees */
  xf_type cache_type; /* 0: the default */
  size_t vocab;
  int32_t *tokens[SEQUENCES];
  float *want[SEQUENCES]; /* [length, vocab] */
  struct exported past[SEQUENCES];
};

struct configuration {
  const char *isa;
  uint32_t threads;
  xf_attention_split split;
  uint32_t q_block, chunk; /* of the model's options */
  size_t call;             /* tokens a sequence adds in a call */
  bool together;           /* all sequences in every call, or one after another */
};

static const char *describe(const struct configuration *c)
{
  static char text[200];
  static const char *const splits[] = {"auto", "never", "always"};
  char call[32] = "all";
  if (c->call != ALL) snprintf(call, sizeof call, "%zu", c->call);
  snprintf(text, sizeof text,
           "%s, %u threads, split %s, q_block %u, chunk %u, %s tokens of %s in a call", c->isa,
           c->threads, splits[c->split], c->q_block, c->chunk, call,
           c->together ? "all sequences" : "one sequence");
  return text;
}

static void expect_same(const struct suite *suite, const struct configuration *c, size_t sequence,
                        size_t position, size_t rows, const float *got)
{
  const float *want = suite->want[sequence] + position * suite->vocab;
  if (memcmp(got, want, rows * suite->vocab * sizeof *got) == 0) return;
  for (size_t i = 0; i < rows * suite->vocab; i++) {
    uint32_t a, b;
    memcpy(&a, &got[i], sizeof a);
    memcpy(&b, &want[i], sizeof b);
    if (a != b)
      fail_msg("%s, sequence %zu, position %zu, logit %zu: %08" PRIx32 " (%.9g), not %08" PRIx32
               " (%.9g); %s",
               suite->name, sequence, position + i / suite->vocab, i % suite->vocab, a,
               (double)got[i], b, (double)want[i], describe(c));
  }
}

/* How many tokens each sequence adds in a call. Together, the first and the last take whole chunks,
 * the second decodes, and the last joins one call later. */
static void plan(const struct configuration *c, size_t round, const size_t *left, size_t *take)
{
  memset(take, 0, SEQUENCES * sizeof *take);
  for (size_t i = 0; i < SEQUENCES; i++) {
    size_t most = i == 1 && c->together ? 1 : c->call;
    if (i == 2 && c->together && round == 0) continue;
    take[i] = left[i] < most ? left[i] : most;
    if (take[i] && !c->together) return;
  }
}

static void compare(const struct suite *suite, const struct configuration *c, const xf_model *model,
                    xf_cache *const *caches)
{
  size_t left[SEQUENCES], take[SEQUENCES], n;
  float *out[SEQUENCES];
  for (size_t i = 0; i < SEQUENCES; i++) {
    left[i] = suite->length[i] - xf_cache_length(caches[i]);
    out[i] = new_floats(left[i] * suite->vocab);
  }
  for (size_t round = 0; left[0] + left[1] + left[2] > 0; round++) {
    xf_sequence calls[SEQUENCES];
    xf_error error = {0};
    plan(c, round, left, take);
    n = 0;
    for (size_t i = 0; i < SEQUENCES; i++)
      if (take[i])
        calls[n++] = (xf_sequence){caches[i], suite->tokens[i] + suite->length[i] - left[i],
                                   take[i], take[i] == 1 ? XF_LOGITS_LAST : XF_LOGITS_ALL, out[i]};
    expect_ok(xf_forward(model, calls, n, &error), &error);
    for (size_t i = 0; i < SEQUENCES; i++) {
      expect_same(suite, c, i, suite->length[i] - left[i], take[i], out[i]);
      left[i] -= take[i];
    }
  }
  for (size_t i = 0; i < SEQUENCES; i++) free(out[i]);
}

/* XF_TEST_SCALE percent of the configurations, drawn at random but the same ones every time. */
static bool drawn(struct rng *rng)
{
  return rng_below(rng, 100) < scaled(100);
}

/* All calls of one model: the configuration's chunks and batches. */
static void compare_calls(const struct suite *suite, struct configuration *c, const xf_model *model,
                          struct rng *rng)
{
  static const size_t calls[] = {1, 7, 64, ALL};
  xf_cache *caches[SEQUENCES];
  xf_error error = {0};
  for (size_t i = 0; i < SEQUENCES; i++) {
    caches[i] = new_cache(model, suite->length[i]);
    if (suite->kept[i])
      expect_ok(xf_cache_import(caches[i], suite->kept[i], (const float *const *)suite->past[i].k,
                                (const float *const *)suite->past[i].v, &error),
                &error);
  }
  for (size_t variant = 0; variant < 8; variant++) {
    c->call = calls[variant / 2];
    c->together = variant % 2;
    if ((c->chunk && c->call != ALL) || !drawn(rng)) continue;
    for (size_t i = 0; i < SEQUENCES; i++) xf_cache_truncate(caches[i], suite->kept[i]);
    compare(suite, c, model, caches);
  }
  for (size_t i = 0; i < SEQUENCES; i++) xf_cache_destroy(caches[i]);
}

static void compare_models(const struct suite *suite, struct configuration *c,
                           const xf_context *context, struct rng *rng)
{
  static const uint32_t q_blocks[] = {0, 1, 32}, chunks[] = {0, 1, 7, 64};
  size_t n = suite->attention ? 36 : 4;
  for (size_t i = 0; i < n; i++) {
    c->chunk = chunks[i % 4];
    c->q_block = q_blocks[i / 4 % 3];
    c->split = (xf_attention_split)(i / 12);
    xf_model_options options = {.struct_size = sizeof options,
                                .split = c->split,
                                .q_block = c->q_block,
                                .chunk = c->chunk,
                                .activations = suite->activations,
                                .cache_type = suite->cache_type};
    xf_model *model = open_model(context, suite->path, &options);
    compare_calls(suite, c, model, rng);
    xf_model_close(model);
  }
}

static xf_model *open_plain(const xf_context *context, const struct suite *suite)
{
  xf_model_options options = {.struct_size = sizeof options,
                              .activations = suite->activations,
                              .cache_type = suite->cache_type};
  return open_model(context, suite->path, &options);
}

/* Every token from the first one on, in one call. */
static void compare_whole(const struct suite *suite, const char *isa)
{
  struct configuration c = {.isa = isa, .threads = 1, .call = ALL, .together = true};
  xf_context *context = open_context(isa, 1);
  xf_model *model = open_plain(context, suite);
  xf_cache *caches[SEQUENCES];
  for (size_t i = 0; i < SEQUENCES; i++) caches[i] = new_cache(model, suite->length[i]);
  compare(suite, &c, model, caches);
  for (size_t i = 0; i < SEQUENCES; i++) xf_cache_destroy(caches[i]);
  xf_model_close(model);
  xf_context_destroy(context);
}

/* Threads of a host and our own ones, more than there may be cores. */
static void compare_all(const struct suite *suite)
{
  static const uint32_t threads[] = {1, 2, 5};
  struct rng rng = {7};
  struct host_pool *pool = host_pool_create(2);
  for (const struct xf_kernels *k = NULL; (k = next_isa(k));) {
    if (strcmp(k->name, definition) != 0) compare_whole(suite, k->name);
    for (size_t i = 0; i < 3; i++) {
      struct configuration c = {.isa = k->name, .threads = threads[i]};
      xf_context *context =
          c.threads == 2 ? open_host_context(k->name, 2, pool) : open_context(k->name, c.threads);
      compare_models(suite, &c, context, &rng);
      xf_context_destroy(context);
    }
  }
  host_pool_destroy(pool);
}

static void make_reference(struct suite *suite)
{
  xf_model_info info;
  xf_context *context = open_context(definition, 1);
  xf_model *model = open_plain(context, suite);
  xf_model_get_info(model, &info);
  suite->vocab = info.vocab_size;
  for (size_t i = 0; i < SEQUENCES; i++) {
    size_t n = suite->length[i];
    xf_cache *cache = new_cache(model, n);
    suite->tokens[i] = random_ids(11 + i, n, suite->vocab);
    suite->want[i] = new_floats(n * suite->vocab);
    run(model, cache, suite->tokens[i], n, XF_LOGITS_ALL, suite->want[i]);
    suite->past[i] = export_cache(model, cache, n);
    xf_cache_destroy(cache);
  }
  xf_model_close(model);
  xf_context_destroy(context);
}

/* The stored line is the suite's name and a hash of each sequence. */
static void expect_hashes(const struct suite *suite)
{
  char name[64], line[128];
  size_t bytes;
  snprintf(name, sizeof name, "tests/bits_numerics_%" PRIu32 ".txt", xf_numerics_version());
  int length = snprintf(line, sizeof line, "\n%s", suite->name);
  for (size_t i = 0; i < SEQUENCES; i++)
    length += snprintf(line + length, sizeof line - (size_t)length, " %016" PRIx64,
                       xf_fnv1a(XF_FNV1A_BEGIN, suite->want[i], suite->length[i] * suite->vocab));
  snprintf(line + length, sizeof line - (size_t)length, "\n");
  char *stored = (char *)read_file(source_path(name), &bytes);
  if (!strstr(stored, line)) fail_msg("%s has another line than this machine's:%s", name, line);
  free(stored);
}

static void test_suite(struct suite *suite)
{
  make_reference(suite);
  expect_hashes(suite);
  compare_all(suite);
  for (size_t i = 0; i < SEQUENCES; i++) {
    free(suite->tokens[i]);
    free(suite->want[i]);
    exported_free(&suite->past[i]);
  }
}

/* Sizes that are no multiples of 16, and keys in two blocks. */
static void check_tiny(const char *name, xf_type type, xf_type cache_type, bool attention)
{
  struct tiny_model tiny = tiny_model_grouped();
  tiny.type = type;
  char *folder = write_tiny_model(&tiny);
  struct suite suite = {.name = name,
                        .path = folder,
                        .length = {37, 150, 560},
                        .kept = {0, 120, 500},
                        .attention = attention,
                        .cache_type = cache_type};
  test_suite(&suite);
  free(folder);
}

static void test_tiny(void **state)
{
  xf_type type = *(const xf_type *)*state;
  check_tiny(xf_type_name(type), type, 0, type == XF_F32);
}

static void test_cache(void **state)
{
  xf_type type = *(const xf_type *)*state;
  char name[32];
  snprintf(name, sizeof name, "cache-%s", xf_type_name(type));
  check_tiny(name, XF_F32, type, type == XF_F16);
}

static void test_demo_model(void **state)
{
  (void)state;
  char *path = strdup(source_path("demo-model"));
  struct suite suite = {
      .name = "demo-model", .path = path, .length = {3, 12, 24}, .kept = {0, 8, 16}};
  test_suite(&suite);
  free(path);
}

static void test_quant_model(const char *name, const struct tiny_model *shape,
                             const xf_type types[static XF_ROLES], xf_activations activations)
{
  char path[4096], *folder = temporary_folder();
  snprintf(path, sizeof path, "%s/model.gguf", folder);
  quant_model_write(shape, types, false, path);
  struct suite suite = {.name = name,
                        .path = path,
                        .activations = activations,
                        .length = {9, 30, 70},
                        .kept = {0, 20, 60}};
  test_suite(&suite);
  free(folder);
}

/* Every matrix of one type. Rows of bytes may have any length, others whole blocks. */
static void test_quants(void **state)
{
  (void)state;
  for (size_t i = 0; i < n_quants_types; i++) {
    xf_type types[XF_ROLES];
    size_t block = quants_block(quants_types[i]);
    struct tiny_model shape = {.hidden = block == 256  ? 256
                                         : block == 32 ? 96
                                                       : 84,
                               .intermediate = block == 256  ? 512
                                               : block == 32 ? 160
                                                             : 130,
                               .layers = 1,
                               .heads = 4,
                               .kv_heads = 2,
                               .head_dim = block == 256  ? 64
                                           : block == 32 ? 24
                                                         : 18,
                               .vocab = 101,
                               .seed = 6,
                               .tied = i % 2};
    for (size_t role = 0; role < XF_ROLES; role++) types[role] = quants_types[i];
    test_quant_model(xf_type_name(quants_types[i]), &shape, types, XF_ACTIVATIONS_INT8);
  }
}

/* Products of two and three types, as files that mix them have. */
static void test_mixes(void **state)
{
  (void)state;
  static const xf_type types[XF_ROLES] = {
      [XF_EMBEDDING] = XF_Q6_K, [XF_HEAD] = XF_Q8_0, [XF_Q] = XF_Q4_K,
      [XF_K] = XF_Q5_0,         [XF_V] = XF_Q6_K,    [XF_O] = XF_Q5_K,
      [XF_GATE] = XF_Q4_1,      [XF_UP] = XF_I8_ROW, [XF_DOWN] = XF_F32};
  const struct tiny_model shape = {.hidden = 256,
                                   .intermediate = 100,
                                   .layers = 1,
                                   .heads = 8,
                                   .kv_heads = 2,
                                   .vocab = 101,
                                   .seed = 7};
  test_quant_model("mix", &shape, types, XF_ACTIVATIONS_INT8);
  test_quant_model("mix-f32-activations", &shape, types, XF_ACTIVATIONS_F32);
}

int main(void)
{
  static xf_type types[] = {XF_F32, XF_BF16, XF_F16, XF_I8};
  const struct CMUnitTest tests[] = {
      {"f32", test_tiny, NULL, NULL, &types[0]},
      {"bf16", test_tiny, NULL, NULL, &types[1]},
      {"f16", test_tiny, NULL, NULL, &types[2]},
      {"cache-bf16", test_cache, NULL, NULL, &types[1]},
      {"cache-f16", test_cache, NULL, NULL, &types[2]},
      {"cache-i8", test_cache, NULL, NULL, &types[3]},
      cmocka_unit_test(test_demo_model),
      cmocka_unit_test(test_quants),
      cmocka_unit_test(test_mixes),
      cmocka_unit_test(test_required_isas),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
