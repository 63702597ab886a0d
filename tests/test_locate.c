/* Where two runs part: of models that differ in one weight, the row and element that it makes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/locate.h"
#include "tests/model_support.h"
#include "tests/support.h"

enum { TOKENS = 9, HIDDEN = 32, LAYERS = 3 };

static const struct tiny_model tiny = {.hidden = HIDDEN,
                                       .intermediate = 48,
                                       .layers = LAYERS,
                                       .heads = 4,
                                       .kv_heads = 2,
                                       .vocab = 40,
                                       .seed = 3};

/* Two sequences of one call, recorded; in chunks of `chunk` rows. */
static void record(const char *path, uint32_t chunk, struct xf_cli_record *r)
{
  xf_context *context = open_context(NULL, 1);
  xf_model_options options = {.struct_size = sizeof options,
                              .chunk = chunk,
                              .boundary = xf_cli_record_operator,
                              .boundary_arg = r};
  xf_model *model = open_model(context, path, &options);
  xf_cache *caches[2] = {new_cache(model, TOKENS), new_cache(model, TOKENS)};
  int32_t *ids = random_ids(4, 2 * TOKENS, tiny.vocab);
  float *out = new_floats(2 * TOKENS * tiny.vocab);
  xf_sequence sequences[2] = {
      {caches[0], ids, TOKENS, XF_LOGITS_ALL, out},
      {caches[1], ids + TOKENS, TOKENS, XF_LOGITS_ALL, out + TOKENS * tiny.vocab}};
  xf_error error = {0};
  r->caches[0] = caches[0];
  r->caches[1] = caches[1];
  expect_ok(xf_forward(model, sequences, 2, &error), &error);
  free(ids);
  free(out);
  xf_cache_destroy(caches[0]);
  xf_cache_destroy(caches[1]);
  xf_model_close(model);
  xf_context_destroy(context);
}

static struct xf_cli_record new_record(void)
{
  struct xf_cli_record r = {.n_sequences = 2, .layers = LAYERS, .most = TOKENS};
  assert_true(xf_cli_record_begin(&r));
  return r;
}

/* Adds 1 to a weight: element `index` of the tensor of that name. */
static void change_weight(const char *folder, const char *tensor, size_t index)
{
  char path[4096], name[128];
  size_t bytes, begin;
  snprintf(path, sizeof path, "%s/model.safetensors", folder);
  snprintf(name, sizeof name, "\"%s\"", tensor);
  unsigned char *data = read_file(path, &bytes);
  uint64_t header;
  memcpy(&header, data, sizeof header);
  const char *entry = strstr((char *)data + 8, name);
  assert_non_null(entry);
  assert_int_equal(sscanf(strstr(entry, "data_offsets"), "data_offsets\":[%zu", &begin), 1);
  unsigned char *at = data + 8 + header + begin + index * sizeof(float);
  float weight;
  memcpy(&weight, at, sizeof weight);
  weight += 1;
  memcpy(at, &weight, sizeof weight);
  write_file(path, data, bytes);
  free(data);
}

static void test_one_weight(void **state)
{
  (void)state;
  static const struct {
    const char *tensor, *name;
    size_t weight, element;
  } cases[] = {{"model.layers.1.self_attn.o_proj.weight", "layer 1, o", 7 * HIDDEN + 3, 7},
               {"model.layers.0.self_attn.q_proj.weight", "layer 0, qkv", 5 * HIDDEN, 5},
               {"model.layers.2.mlp.up_proj.weight", "layer 2, gate_up", HIDDEN, 48 + 1},
               {"model.layers.2.input_layernorm.weight", "layer 2, attention_norm", 9, 9},
               {"model.norm.weight", "norm", 4, 4},
               {"lm_head.weight", "head", 6 * HIDDEN + 1, 6}};
  char *plain = write_tiny_model(&tiny);
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    char *changed = write_tiny_model(&tiny);
    change_weight(changed, cases[i].tensor, cases[i].weight);
    struct xf_cli_record a = new_record(), b = new_record();
    struct xf_cli_place place;
    record(plain, 0, &a);
    record(changed, 5, &b);
    assert_true(xf_cli_records_part(&a, &b, &place));
    assert_int_equal(place.sequence, 0);
    assert_int_equal(place.position, 0);
    a.keeps = b.keeps = true;
    a.kept = b.kept = place;
    record(plain, 0, &a);
    record(changed, 1, &b);
    assert_string_equal(a.name, cases[i].name);
    assert_string_equal(b.name, cases[i].name);
    assert_int_equal(a.n_values, b.n_values);
    for (size_t j = 0; j < a.n_values; j++)
      assert_int_equal(memcmp(&a.values[j], &b.values[j], sizeof(float)) != 0,
                       j == cases[i].element);
    xf_cli_record_free(&a);
    xf_cli_record_free(&b);
    free(changed);
  }
  free(plain);
}

/* Chunks and batches are no difference. */
static void test_no_difference(void **state)
{
  (void)state;
  char *plain = write_tiny_model(&tiny);
  struct xf_cli_record a = new_record(), b = new_record();
  struct xf_cli_place place;
  record(plain, 0, &a);
  record(plain, 4, &b);
  assert_false(xf_cli_records_part(&a, &b, &place));
  size_t recorded = 0;
  for (size_t i = 0; i < (LAYERS * 12 + 4) * 2 * TOKENS; i++) recorded += a.hashes[i] != 0;
  /* All operators, less the cache's write in each layer and the first layer's residual. */
  assert_int_equal(recorded, (LAYERS * 11 - 1 + 4) * 2 * TOKENS);
  xf_cli_record_free(&a);
  xf_cli_record_free(&b);
  free(plain);
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_one_weight),
                                     cmocka_unit_test(test_no_difference)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
