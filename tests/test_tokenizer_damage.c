/* Damaged tokenizer.json and vocabulary GGUF files, and memory that runs out. Meant to be run under
 * the sanitizers too. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/damage.h"
#include "tests/failing_alloc.h"
#include "tests/support.h"
#include "tests/tokenizer_support.h"
#include "tests/tokenizer_writer.h"

static char json_path[2100], gguf_path[2100];

/* Encodes, decodes and streams a text; the status of the first failure. */
static xf_status use(const xf_tokenizer *tokenizer)
{
  static const char text[] = "hello  a12<tool> e\xCC\x81日本<|end|>\xFF";
  int32_t ids[128];
  char out[1024];
  size_t n, bytes;
  const char *piece;
  xf_decoder *decoder;
  xf_status status = xf_decoder_create(tokenizer, &decoder, NULL);
  if (!status)
    status = xf_tokenizer_encode(tokenizer, text, sizeof text - 1, XF_ENCODE_PARSE_SPECIAL, ids,
                                 128, &n, NULL);
  if (!status) status = xf_tokenizer_decode(tokenizer, ids, n, out, sizeof out, &bytes, NULL);
  for (size_t i = 0; !status && i < n; i++)
    status = xf_decoder_push(decoder, ids[i], &piece, &bytes);
  xf_decoder_destroy(decoder);
  return status;
}

static bool attempt(void *path)
{
  xf_tokenizer *tokenizer;
  xf_error error = {0};
  xf_status status = xf_tokenizer_open(path, &tokenizer, &error);
  assert_true((status == XF_OK) == (tokenizer != NULL));
  if (status != XF_OK) {
    assert_true(status == XF_E_FORMAT || status == XF_E_UNSUPPORTED);
    assert_non_null(strstr(error.message, path));
    return false;
  }
  status = use(tokenizer); /* the byte may have been one that the vocabulary then lacks */
  assert_true(status == XF_OK || status == XF_E_UNSUPPORTED);
  xf_tokenizer_close(tokenizer);
  return true;
}

static void damaged_json(void **state)
{
  (void)state;
  /* Only what cuts no more than the end of the last line. */
  assert_int_equal(damage_prefixes(json_path, attempt, json_path), 1);
  size_t accepted = damage_bytes(json_path, 0, 10000, 4, attempt, json_path);
  assert_in_range(accepted, 1, 9000);
}

static void damaged_gguf(void **state)
{
  (void)state;
  size_t accepted = damage_prefixes(gguf_path, attempt, gguf_path);
  assert_in_range(accepted, 0, 32); /* the padding behind the metadata */
  accepted = damage_bytes(gguf_path, 400, 10000, 5, attempt, gguf_path);
  assert_in_range(accepted, 1, 9000);
}

static void check_failing_allocations(const char *path)
{
  for (size_t n = 0;; n++) {
    xf_tokenizer *tokenizer;
    xf_error error;
    failing_alloc_after(n);
    xf_status status = xf_tokenizer_open(path, &tokenizer, &error);
    if (status == XF_OK) status = use(tokenizer);
    xf_tokenizer_close(tokenizer);
    if (failing_alloc_off() == 0) {
      assert_int_equal(status, XF_OK);
      assert_true(n > 20);
      break;
    }
    assert_int_equal(status, XF_E_MEMORY);
  }
}

static void failing_allocations(void **state)
{
  (void)state;
  check_failing_allocations(json_path);
  check_failing_allocations(gguf_path);
  check_failing_allocations(source_path("demo-model/tokenizer.json"));
}

int main(void)
{
  char *folder = temporary_folder();
  snprintf(json_path, sizeof json_path, "%s/tokenizer.json", folder);
  snprintf(gguf_path, sizeof gguf_path, "%s/vocabulary.gguf", folder);
  free(folder);
  char *json = write_json(&(struct json_parts){.normalizer = "{\"type\": \"NFC\"}"});
  write_file(json_path, json, strlen(json));
  free(json);
  write_gguf(gguf_path, "llama-bpe");
  const struct CMUnitTest tests[] = {cmocka_unit_test(damaged_json), cmocka_unit_test(damaged_gguf),
                                     cmocka_unit_test(failing_allocations)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
