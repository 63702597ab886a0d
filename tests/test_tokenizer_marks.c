/* A SentencePiece vocabulary from tokenizer.json: the demo model's, as it is and changed. */
#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support.h"
#include "tests/tokenizer_support.h"

#define METASPACE(scheme, split)                                                                   \
  "{\"type\": \"Metaspace\", \"replacement\": \"▁\", \"prepend_scheme\": \"" scheme                \
  "\", \"split\": " split "}"

static char changed_path[2100];

/* Writes the demo model's tokenizer.json with up to two parts replaced; part[0] may be "model.x".
 */
static const char *change(const char *const parts[2][2])
{
  size_t bytes;
  char *text = (char *)read_file(source_path("demo-model/tokenizer.json"), &bytes);
  cJSON *json = cJSON_Parse(text);
  for (size_t i = 0; i < 2 && parts[i][0]; i++) {
    const char *name = parts[i][0];
    bool in_model = strncmp(name, "model.", 6) == 0;
    cJSON *object = in_model ? cJSON_GetObjectItem(json, "model") : json;
    cJSON_DeleteItemFromObject(object, in_model ? name + 6 : name);
    cJSON_AddItemToObject(object, in_model ? name + 6 : name, cJSON_Parse(parts[i][1]));
  }
  char *out = cJSON_PrintUnformatted(json);
  write_file(changed_path, out, strlen(out));
  free(out);
  cJSON_Delete(json);
  free(text);
  return changed_path;
}

static xf_tokenizer *open_demo(const char *name)
{
  return open_tokenizer(source_path(name));
}

static void check_same(const xf_tokenizer *a, const char *text_a, const xf_tokenizer *b,
                       const char *text_b, uint32_t flags)
{
  struct ids got = encode(a, text_a, strlen(text_a), flags);
  struct ids want = encode(b, text_b, strlen(text_b), flags);
  assert_ids(text_a, got, want);
  struct bytes decoded = decode(a, got.data, got.n), other = decode(b, want.data, want.n);
  assert_int_equal(decoded.n, other.n);
  assert_memory_equal(decoded.data, other.data, other.n);
  free(got.data);
  free(want.data);
  free(decoded.data);
  free(other.data);
}

/* The merges give what the scores give: whole files, and every piece of them. */
static void merges_as_scores(void **state)
{
  (void)state;
  static const char *const files[] = {"demo-model/MODEL_CARD.md", "demo-model/sources.tsv",
                                      "demo-model/greedy_reference.json"};
  xf_tokenizer *json = open_demo("demo-model/tokenizer.json");
  xf_tokenizer *model = open_demo("demo-model/tokenizer.model");
  assert_int_equal(xf_tokenizer_vocab_size(json), xf_tokenizer_vocab_size(model));
  assert_int_equal(xf_tokenizer_bos(json), xf_tokenizer_bos(model));
  assert_int_equal(xf_tokenizer_eos(json), xf_tokenizer_eos(model));
  assert_true(xf_tokenizer_adds_bos(json) && xf_tokenizer_adds_bos(model));
  struct rng rng = {99};
  for (size_t f = 0; f < 3; f++) {
    size_t bytes;
    char *text = (char *)read_file(source_path(files[f]), &bytes);
    check_same(json, text, model, text, 0);
    for (int i = 0; i < 500; i++) {
      char part[100] = "";
      memcpy(part, text + rng_below(&rng, bytes - 99), rng_below(&rng, 99));
      check_same(json, part, model, part, 0);
    }
    free(text);
  }
  static const char *const texts[] = {"a<s>b", "</s> x </s>", "<unk>", "  two  ", "\n", "▁a", ""};
  for (size_t i = 0; i < 2 * sizeof texts / sizeof *texts; i++)
    check_same(json, texts[i / 2], model, texts[i / 2], i & 1 ? XF_ENCODE_PARSE_SPECIAL : 0);
  xf_tokenizer_close(json);
  xf_tokenizer_close(model);
}

static xf_tokenizer *open_metaspace(const char *metaspace)
{
  const char *const parts[2][2] = {{"normalizer", "null"}, {"pre_tokenizer", metaspace}};
  return open_tokenizer(change(parts));
}

static void metaspace(void **state)
{
  (void)state;
  xf_tokenizer *model = open_demo("demo-model/tokenizer.model");
  xf_tokenizer *always = open_metaspace(METASPACE("always", "false"));
  check_same(always, "hello there", model, "hello there", 0);
  check_same(always, " hello there", model, "hello there", 0); /* the space is there already */
  check_same(always, "a<s>b", model, "a<s>b", XF_ENCODE_PARSE_SPECIAL);
  xf_tokenizer *first = open_metaspace(METASPACE("first", "false"));
  check_same(first, "hello there", model, "hello there", 0);
  check_same(first, "a<s> b", model, "a<s>b", XF_ENCODE_PARSE_SPECIAL); /* none put behind <s> */
  xf_tokenizer *never = open_metaspace(METASPACE("never", "false"));
  check_same(never, " hello there", model, "hello there", 0);
  xf_tokenizer_close(model);
  xf_tokenizer_close(always);
  xf_tokenizer_close(first);
  xf_tokenizer_close(never);
}

static void refused(void **state)
{
  (void)state;
  static const struct {
    const char *const parts[2][2];
    const char *words;
  } cases[] = {
      {{{"normalizer", "null"}, {"pre_tokenizer", METASPACE("always", "true")}}, "Metaspace"},
      {{{"pre_tokenizer", METASPACE("always", "false")}}, "pre_tokenizer (Metaspace)"},
      {{{"normalizer", "{\"type\": \"Prepend\", \"prepend\": \"▁\"}"}}, "normalizer (Prepend)"},
      {{{"normalizer", "{\"type\": \"Lowercase\"}"}}, "normalizer (Lowercase)"},
      {{{"pre_tokenizer", "{\"type\": \"Whitespace\"}"}}, "pre_tokenizer (Whitespace)"},
      {{{"decoder", "{\"type\": \"Fuse\"}"}}, "decoder (Fuse)"},
      {{{"decoder", "{\"type\": \"WordPiece\"}"}}, "decoder (WordPiece)"},
      {{{"model.byte_fallback", "false"}}, "model.byte_fallback"},
      {{{"model.ignore_merges", "true"}}, "model.ignore_merges"},
      {{{"model.dropout", "0.5"}}, "model.dropout"},
      {{{"model.type", "\"WordLevel\""}}, "model.type is WordLevel"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    xf_tokenizer *tokenizer;
    xf_error error = {0};
    xf_status status = xf_tokenizer_open(change(cases[i].parts), &tokenizer, &error);
    if (status != XF_E_UNSUPPORTED || !strstr(error.message, cases[i].words))
      fail_msg("'%s' lacks '%s'", error.message, cases[i].words);
  }
}

int main(void)
{
  char *folder = temporary_folder();
  snprintf(changed_path, sizeof changed_path, "%s/tokenizer.json", folder);
  free(folder);
  const struct CMUnitTest tests[] = {cmocka_unit_test(merges_as_scores),
                                     cmocka_unit_test(metaspace), cmocka_unit_test(refused)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
