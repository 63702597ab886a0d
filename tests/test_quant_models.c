/* Whole models of 8- and 4-bit weights: the floats that they stand for, files that cannot be right,
 * scales that no sane file has. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/compare.h"
#include "tests/gguf_model.h"
#include "tests/isas.h"
#include "tests/model_support.h"
#include "tests/quant_model.h"
#include "tests/quants.h"

enum { IDS = 12, VOCAB = 53 };

static char *folder, path[4096], other[4096];

static int start(void **state)
{
  (void)state;
  folder = temporary_folder();
  snprintf(path, sizeof path, "%s/model.gguf", folder);
  snprintf(other, sizeof other, "%s/other.gguf", folder);
  return 0;
}

static int finish(void **state)
{
  (void)state;
  free(folder);
  return 0;
}

static void write_model(xf_type type, bool special)
{
  const struct tiny_model shape = {.hidden = 256,
                                   .intermediate = 512,
                                   .layers = 1,
                                   .heads = 4,
                                   .kv_heads = 2,
                                   .vocab = VOCAB,
                                   .seed = 3};
  xf_type types[XF_ROLES];
  for (size_t role = 0; role < XF_ROLES; role++) types[role] = type;
  quant_model_write(&shape, types, special, path);
}

/* The logits of some tokens; free() them. */
static float *logits_of(const char *file, const char *isa, xf_activations activations)
{
  xf_model_options options = {.struct_size = sizeof options, .activations = activations};
  xf_context *context = open_context(isa, 1);
  xf_model *model = open_model(context, file, &options);
  xf_cache *cache = new_cache(model, IDS);
  int32_t *ids = random_ids(1, IDS, VOCAB);
  float *logits = new_floats((size_t)IDS * VOCAB);
  run(model, cache, ids, IDS, XF_LOGITS_ALL, logits);
  free(ids);
  xf_cache_destroy(cache);
  xf_model_close(model);
  xf_context_destroy(context);
  return logits;
}

static void expect_same(const char *what, float *got, float *want)
{
  expect_bits(what, "", got, want, (size_t)IDS * VOCAB);
  free(got), free(want);
}

/* A file of f32 with the same weights gives the bits of f32 activations; a copy those of int8. */
static void test_conversions(void **state)
{
  (void)state;
  for (size_t i = 0; i < n_quants_types; i++) {
    this_case("%s", xf_type_name(quants_types[i]));
    write_model(quants_types[i], false);
    convert_model(path, other, (xf_convert_options){.type = XF_F32});
    expect_same("as floats", logits_of(path, NULL, XF_ACTIVATIONS_F32),
                logits_of(other, NULL, XF_ACTIVATIONS_INT8));
    remove(other);
    convert_model(path, other, (xf_convert_options){0});
    expect_same("copied", logits_of(other, NULL, XF_ACTIVATIONS_INT8),
                logits_of(path, NULL, XF_ACTIVATIONS_INT8));
    remove(other);
  }
}

/* Scales of 0, infinity, NaN: the same logits, NaN or not, everywhere. */
static void test_special_scales(void **state)
{
  (void)state;
  size_t odd = 0;
  for (size_t i = 0; i < n_quants_types; i++) {
    write_model(quants_types[i], true);
    for (xf_activations a = XF_ACTIVATIONS_INT8; a <= XF_ACTIVATIONS_F32; a++) {
      float *want = logits_of(path, "scalar", a);
      for (size_t j = 0; j < (size_t)IDS * VOCAB; j++) odd += !isfinite(want[j]);
      for (const struct xf_kernels *k = NULL; (k = next_isa(k));) {
        this_case("%s, activations %d", xf_type_name(quants_types[i]), (int)a);
        float *got = logits_of(path, k->name, a);
        expect_bits("logits", k->name, got, want, (size_t)IDS * VOCAB);
        free(got);
      }
      free(want);
    }
  }
  expect_true("some are not finite", "", odd > 0);
}

static void refuse(const char *file, xf_status want, const char *word, const char *why)
{
  xf_context *context = open_context(NULL, 1);
  xf_model *model;
  xf_error error = {0};
  xf_status status = xf_model_open(context, file, NULL, &model, &error);
  assert_null(model);
  if (!strstr(error.message, word) || !strstr(error.message, why))
    fail_msg("no %s or no %s in: %s", word, why, error.message);
  expect_status(status, want, &error);
  xf_context_destroy(context);
}

static void test_scales(void **state)
{
  (void)state;
  static const float scales[VOCAB];
  struct gguf_edit edit = {.drop = "output.scale"};
  write_model(XF_I8_ROW, false);
  gguf_copy(path, other, &edit);
  refuse(other, XF_E_FORMAT, "output.scale", "no tensor");
  edit.vector = "output.scale", edit.values = scales, edit.n = VOCAB - 1;
  gguf_copy(path, other, &edit);
  refuse(other, XF_E_SHAPE, "output.scale", "[52]");
  write_model(XF_Q8_0, false);
  gguf_copy(path, other,
            &(struct gguf_edit){.vector = "blk.0.attn_q.scale", .values = scales, .n = 8});
  refuse(other, XF_E_UNSUPPORTED, "blk.0.attn_q.scale", "not of I8");
}

/* A file of one tensor, with no data: types that cannot be there are found before it is read. */
static void write_tensor(const char *name, uint32_t type, size_t rank, const size_t *shape)
{
  struct xf_gguf_writer *writer;
  struct xf_gguf whole;
  xf_error error = {0};
  expect_ok(xf_gguf_open(path, &whole, &error), &error);
  expect_ok(xf_gguf_writer_create(&writer, &error), &error);
  const struct xf_ggml_type *changed = xf_ggml_type_find(type);
  for (size_t i = 0; i < whole.n_values; i++) xf_gguf_add_value(writer, &whole.values[i]);
  for (size_t i = 0; i < whole.n_tensors; i++) {
    const struct xf_tensor *t = &whole.tensors[i];
    bool it = strcmp(t->name, name) == 0;
    xf_gguf_add_tensor(writer, t->name, it ? changed : xf_ggml_type_of(t->type),
                       it ? rank : t->rank, it ? shape : t->shape);
  }
  expect_ok(xf_gguf_writer_start(writer, other, &error), &error);
  for (size_t i = 0; i < whole.n_tensors; i++) {
    const struct xf_tensor *t = &whole.tensors[i];
    bool it = strcmp(t->name, name) == 0;
    size_t n = it ? shape[0] * (rank > 1 ? shape[1] : 1) / changed->block * changed->block_bytes
                  : t->bytes;
    void *zeros = calloc(n + 1, 1);
    expect_ok(xf_gguf_writer_data(writer, it ? zeros : t->data, n, &error), &error);
    free(zeros);
  }
  expect_ok(xf_gguf_writer_finish(writer, &error), &error);
  xf_gguf_writer_destroy(writer);
  xf_gguf_close(&whole);
}

static void test_types(void **state)
{
  (void)state;
  enum { Q8_0 = 8, Q2_K = 10 };
  static const size_t matrix[] = {256, 256}, vector[] = {256};
  write_model(XF_Q4_K, false);
  write_tensor("blk.0.attn_q.weight", Q2_K, 2, matrix);
  refuse(other, XF_E_UNSUPPORTED, "blk.0.attn_q.weight", "not Q2_K");
  write_tensor("blk.0.attn_norm.weight", Q8_0, 1, vector);
  refuse(other, XF_E_UNSUPPORTED, "blk.0.attn_norm.weight", "not Q8_0");
  write_tensor("blk.0.attn_q.weight", Q8_0, 2, matrix); /* one of another type is fine */
  free(logits_of(other, NULL, XF_ACTIVATIONS_INT8));
}

static void test_info(void **state)
{
  (void)state;
  static const xf_type types[XF_ROLES] = {
      [XF_EMBEDDING] = XF_Q4_0, [XF_HEAD] = XF_Q8_0, [XF_Q] = XF_Q4_K,
      [XF_K] = XF_Q4_K,         [XF_V] = XF_Q6_K,    [XF_O] = XF_Q4_K,
      [XF_GATE] = XF_Q4_K,      [XF_UP] = XF_Q4_K,   [XF_DOWN] = XF_Q6_K};
  static const xf_type wanted[] = {XF_Q4_K, XF_Q6_K, XF_Q8_0, XF_F32};
  const struct tiny_model shape = {.hidden = 256,
                                   .intermediate = 512,
                                   .layers = 2,
                                   .heads = 4,
                                   .kv_heads = 2,
                                   .vocab = VOCAB,
                                   .seed = 3};
  quant_model_write(&shape, types, false, path);
  xf_context *context = open_context(NULL, 1);
  xf_model *model = open_model(context, path, NULL);
  xf_model_info info;
  uint64_t bytes = 0, parameters = 0;
  xf_model_get_info(model, &info);
  assert_int_equal(info.n_types, 4);
  for (size_t i = 0; i < info.n_types; i++) {
    assert_int_equal(info.types[i].type, wanted[i]);
    bytes += info.types[i].bytes;
    parameters += info.types[i].parameters;
  }
  assert_int_equal(info.weight_type, XF_Q4_K);
  assert_int_equal(bytes, info.weight_bytes);
  assert_int_equal(parameters + VOCAB * 256, info.parameters); /* the embedding lies in the file */
  xf_model_close(model);
  xf_context_destroy(context);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_conversions), cmocka_unit_test(test_special_scales),
      cmocka_unit_test(test_scales),      cmocka_unit_test(test_types),
      cmocka_unit_test(test_info),        cmocka_unit_test(test_required_isas)};
  return cmocka_run_group_tests_name("models of 8- and 4-bit weights", tests, start, finish);
}
