/* Packed files: the bits of the checkpoint that they were made of, read in place; and what cannot
 * be right. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/compare.h"
#include "tests/damage.h"
#include "tests/failing_alloc.h"
#include "tests/folder.h"
#include "tests/gguf_model.h"
#include "tests/isas.h"
#include "tests/model_support.h"
#include "tests/quant_model.h"
#include "tests/quants.h"

enum { IDS = 12, VOCAB = 53 };

static char plain[4096], packed[4096], spoilt[4096];
static xf_context *context;

static int start(void **state)
{
  (void)state;
  folder = temporary_folder();
  snprintf(plain, sizeof plain, "%s/plain.gguf", folder);
  snprintf(packed, sizeof packed, "%s/packed.gguf", folder);
  snprintf(spoilt, sizeof spoilt, "%s/spoilt.gguf", folder);
  context = open_context(NULL, 2);
  return 0;
}

static int finish(void **state)
{
  (void)state;
  xf_context_destroy(context);
  free(folder);
  return 0;
}

static float *logits_of(const xf_model *model)
{
  xf_model_info info;
  xf_model_get_info(model, &info);
  xf_cache *cache = new_cache(model, IDS);
  int32_t *ids = random_ids(1, IDS, info.vocab_size);
  float *logits = new_floats((size_t)IDS * info.vocab_size);
  run(model, cache, ids, IDS, XF_LOGITS_ALL, logits);
  free(ids);
  xf_cache_destroy(cache);
  return logits;
}

/* Logits, and all that a model says of itself. */
static void expect_same_model(const char *from, const char *isa)
{
  xf_context *machine = open_context(isa, 1);
  xf_model *a = open_model(machine, from, NULL), *b = open_model(machine, packed, NULL);
  xf_model_info x, y;
  xf_model_get_info(a, &x);
  xf_model_get_info(b, &y);
  float *want = logits_of(a), *got = logits_of(b);
  expect_bits("logits", isa, got, want, (size_t)IDS * x.vocab_size);
  assert_int_equal(x.parameters, y.parameters);
  assert_int_equal(x.weight_bytes, y.weight_bytes);
  assert_int_equal(x.weight_type, y.weight_type);
  assert_int_equal(x.tied_embeddings, y.tied_embeddings);
  assert_int_equal(x.n_types, y.n_types);
  for (size_t i = 0; i < x.n_types; i++) assert_int_equal(x.types[i].bytes, y.types[i].bytes);
  free(want), free(got);
  xf_model_close(a);
  xf_model_close(b);
  xf_context_destroy(machine);
}

/* Folders of floats, with sizes that no block likes, tied and not. */
static void test_folders(void **state)
{
  (void)state;
  for (size_t i = 0; i < 6; i++) {
    struct tiny_model tiny = i % 2 ? tiny_model_ragged() : tiny_model_smallest();
    tiny.type = (const xf_type[]){XF_F32, XF_F16, XF_BF16}[i / 2];
    tiny.tied = i == 1 || i == 2;
    char *from = write_tiny_model(&tiny);
    this_case("%s, tied %d", xf_type_name(tiny.type), tiny.tied);
    convert_model(from, packed, (xf_convert_options){.packed = 1});
    for (const struct xf_kernels *k = NULL; (k = next_isa(k));) expect_same_model(from, k->name);
    free(from);
  }
}

static void write_mix(bool tied)
{
  static const xf_type types[XF_ROLES] = {
      [XF_EMBEDDING] = XF_I8_ROW, [XF_HEAD] = XF_Q8_0, [XF_Q] = XF_Q4_K,
      [XF_K] = XF_Q5_0,           [XF_V] = XF_Q6_K,    [XF_O] = XF_Q5_K,
      [XF_GATE] = XF_Q4_1,        [XF_UP] = XF_I8_ROW, [XF_DOWN] = XF_F32};
  const struct tiny_model shape = {.hidden = 256,
                                   .intermediate = 100,
                                   .layers = 2,
                                   .heads = 8,
                                   .kv_heads = 2,
                                   .vocab = VOCAB,
                                   .seed = 9,
                                   .tied = tied};
  quant_model_write(&shape, types, false, plain);
  convert_model(plain, packed, (xf_convert_options){.packed = 1});
}

static void test_mixes(void **state)
{
  (void)state;
  for (int tied = 0; tied < 2; tied++) {
    write_mix(tied);
    this_case("tied %d", tied);
    for (const struct xf_kernels *k = NULL; (k = next_isa(k));) expect_same_model(plain, k->name);
  }
}

/* Nothing of the size of a layer is allocated. */
static void test_in_place(void **state)
{
  (void)state;
  struct tiny_model tiny = tiny_model_ragged();
  char *from = write_tiny_model(&tiny);
  convert_model(from, packed, (xf_convert_options){.packed = 1});
  failing_alloc_largest();
  xf_model *model = open_model(context, packed, NULL);
  size_t most = failing_alloc_largest();
  xf_model_close(model);
  model = open_model(context, from, NULL);
  assert_true(most < 4096 && failing_alloc_largest() > 100000);
  xf_model_close(model);
  free(from);
}

/* ---- what cannot be right ---- */

static void refuse(const char *path, xf_status want, const char *words)
{
  xf_model *model;
  xf_error error = {0};
  xf_status status = xf_model_open(context, path, NULL, &model, &error);
  assert_null(model);
  if (!strstr(error.message, path) || !strstr(error.message, words))
    fail_msg("no %s in: %s", words, error.message);
  expect_status(status, want, &error);
}

/* The packed file without a key or tensor, and with something else. */
static void spoil(const char *drop, void (*add)(struct xf_gguf_writer *writer, const void *arg),
                  const void *arg)
{
  gguf_copy(packed, spoilt, &(struct gguf_edit){.drop = drop, .add = add, .arg = arg});
}

static void add_version(struct xf_gguf_writer *writer, const void *arg)
{
  xf_gguf_writer_align(writer, 64);
  xf_gguf_add_u32(writer, "exactflash.packed.version", *(const uint32_t *)arg);
}

/* arg: {n, changed number, its value}: the parts of the model of write_mix, two layers. */
static void add_parts(struct xf_gguf_writer *writer, const void *arg)
{
  const uint32_t *edit = arg;
  struct xf_gguf gguf;
  xf_error error = {0};
  expect_ok(xf_gguf_open(packed, &gguf, &error), &error);
  const struct xf_gguf_value *parts = xf_gguf_find(&gguf, "exactflash.packed.parts");
  uint32_t numbers[54];
  assert_int_equal(parts->n, 54);
  for (size_t i = 0; i < 54; i++) numbers[i] = (uint32_t)xf_gguf_integer_at(parts, i);
  numbers[edit[1]] = edit[2];
  xf_gguf_close(&gguf);
  xf_gguf_writer_align(writer, 64);
  xf_gguf_add_array(writer, "exactflash.packed.parts", XF_GGUF_U32, numbers, edit[0]);
}

static void add_alignment(struct xf_gguf_writer *writer, const void *arg)
{
  xf_gguf_writer_align(writer, *(const uint32_t *)arg);
}

static void test_metadata(void **state)
{
  (void)state;
  write_mix(false);
  const uint32_t two = 2, align = 64;
  spoil("exactflash.packed.version", add_version, &two);
  refuse(spoilt, XF_E_UNSUPPORTED, "exactflash.packed.version is not 1");
  spoil("exactflash.packed.parts", add_alignment, &align);
  refuse(spoilt, XF_E_FORMAT, "exactflash.packed.parts must be an array of 54 u32");
  static const uint32_t edits[][3] = {{53, 0, XF_Q4_K}, /* too few */
                                      {54, 0, XF_I8},   /* no type of weights */
                                      {54, 0, 0},       {54, 0, 99},
                                      {54, 1, 0}, /* no columns of q */
                                      {54, 1, 255},     {54, 1, UINT32_MAX}};
  for (size_t i = 0; i < sizeof edits / sizeof *edits; i++) {
    spoil("exactflash.packed.parts", add_parts, edits[i]);
    refuse(spoilt, XF_E_FORMAT, "exactflash.packed.parts");
  }
  static const uint32_t other_type[] = {54, 0, XF_Q8_0};
  spoil("exactflash.packed.parts", add_parts, other_type);
  refuse(spoilt, XF_E_FORMAT, "blk.0.qkv.panels: ");
  static const uint32_t uneven[] = {54, 18, XF_Q4_K}; /* down has k = 100 */
  spoil("exactflash.packed.parts", add_parts, uneven);
  refuse(spoilt, XF_E_SHAPE, "blk.0.down.panels: ");
}

static void test_tensors(void **state)
{
  (void)state;
  write_mix(false);
  const uint32_t align = 64;
  static const char *const names[] = {"blk.1.gate_up.panels", "head.panels", "token_embd.weight",
                                      "token_embd.scale", "blk.0.attn_norm.weight"};
  for (size_t i = 0; i < 5; i++) {
    spoil(names[i], add_alignment, &align);
    refuse(spoilt, XF_E_FORMAT, names[i]);
  }
  gguf_copy(packed, spoilt, &(struct gguf_edit){.drop = "general.alignment"}); /* 32 */
  xf_model *model = NULL;
  xf_error error = {0};
  if (xf_model_open(context, spoilt, NULL, &model, &error)) /* unless all lie well by chance */
    assert_non_null(strstr(error.message, "aligned to 64"));
  xf_model_close(model);
}

static bool attempt(void *arg)
{
  (void)arg;
  xf_model *model;
  xf_error error = {0};
  xf_status status = xf_model_open(context, packed, NULL, &model, &error);
  if (status != XF_OK) assert_true(error.message[0] != '\0' && !model);
  xf_model_close(model);
  return status == XF_OK;
}

/* Every byte of the metadata changed, and every prefix: refused, or a model. */
static void test_damage(void **state)
{
  (void)state;
  struct tiny_model tiny = tiny_model_smallest();
  char *from = write_tiny_model(&tiny);
  convert_model(from, packed, (xf_convert_options){.packed = 1});
  assert_true(attempt(NULL));
  assert_int_equal(damage_prefixes(packed, attempt, NULL), 0);
  assert_in_range(damage_bytes(packed, 2400, scaled(20000), 5, attempt, NULL), 1, 20000);
  free(from);
}

static void test_conversion(void **state)
{
  (void)state;
  xf_error error = {0};
  xf_convert_options options = {.struct_size = sizeof options, .packed = 1};
  write_mix(false);
  remove(spoilt);
  xf_status status = xf_convert(context, packed, spoilt, &options, &error);
  assert_non_null(strstr(error.message, "is a packed file"));
  expect_status(status, XF_E_UNSUPPORTED, &error);
  for (size_t n = 0;; n++) {
    remove(spoilt);
    failing_alloc_after(n);
    status = xf_convert(context, plain, spoilt, &options, &error);
    if (!failing_alloc_failed(status, &error)) break;
  }
}

static int cancel_at(void *arg, const char *stage, size_t done, size_t total)
{
  (void)stage, (void)done, (void)total;
  return (*(size_t *)arg)-- == 0;
}

/* In one run: the bytes of two, and nothing else is left whatever fails. */
static void test_of_another_type(void **state)
{
  (void)state;
  struct tiny_model tiny = tiny_model_smallest();
  char *from = write_tiny_model(&tiny), *at_first = folder;
  folder = temporary_folder();
  snprintf(spoilt, sizeof spoilt, "%s/x.gguf", folder);
  convert_model(from, plain, (xf_convert_options){.type = XF_I8_ROW});
  convert_model(plain, packed, (xf_convert_options){.packed = 1});
  size_t left, bytes[2];
  xf_convert_options options = {.struct_size = sizeof options,
                                .packed = 1,
                                .type = XF_I8_ROW,
                                .progress = cancel_at,
                                .progress_arg = &left};
  xf_error error = {0};
  xf_status status = XF_E_CANCELLED;
  for (size_t n = 0; status; n++) {
    left = n;
    status = xf_convert(context, from, spoilt, &options, &error);
    assert_int_equal(files_in_folder(), status == XF_OK);
    if (status) expect_status(status, XF_E_CANCELLED, &error);
    assert_in_range(n, 0, 100);
  }
  unsigned char *want = read_file(packed, &bytes[0]), *got = read_file(spoilt, &bytes[1]);
  assert_int_equal(bytes[0], bytes[1]);
  assert_memory_equal(want, got, bytes[0]);
  expect_status(xf_convert(context, from, spoilt, &options, &error), XF_E_FILE, &error);
  options.progress = NULL;
  for (size_t n = 0;; n++) {
    remove(spoilt);
    failing_alloc_after(n);
    status = xf_convert(context, from, spoilt, &options, &error);
    if (!failing_alloc_failed(status, &error)) break;
    assert_int_equal(files_in_folder(), 0);
  }
  free(want), free(got), free(from), free(folder);
  folder = at_first;
  snprintf(spoilt, sizeof spoilt, "%s/spoilt.gguf", folder);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_folders),      cmocka_unit_test(test_mixes),
      cmocka_unit_test(test_in_place),     cmocka_unit_test(test_metadata),
      cmocka_unit_test(test_tensors),      cmocka_unit_test(test_damage),
      cmocka_unit_test(test_conversion),   cmocka_unit_test(test_of_another_type),
      cmocka_unit_test(test_required_isas)};
  return cmocka_run_group_tests_name("packed files", tests, start, finish);
}
