/* GGUF files that cannot be right: each is refused with a message, whatever its bytes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/damage.h"
#include "tests/failing_alloc.h"
#include "tests/gguf_model.h"
#include "tests/model_support.h"
#include "tests/support.h"

static xf_context *context;
static char *folder, *path, *other;

static char *path_in_folder(const char *name)
{
  size_t bytes = strlen(folder) + strlen(name) + 2;
  char *joined = malloc(bytes);
  assert_non_null(joined);
  snprintf(joined, bytes, "%s/%s", folder, name);
  return joined;
}

static int start(void **state)
{
  (void)state;
  context = open_context(NULL, 1);
  struct tiny_model tiny = tiny_model_smallest();
  folder = write_tiny_model(&tiny);
  path = path_in_folder("model.gguf");
  other = path_in_folder("other.gguf");
  return 0;
}

static int finish(void **state)
{
  (void)state;
  xf_context_destroy(context);
  free(folder);
  free(path);
  free(other);
  return 0;
}

/* ---- files made byte by byte ---- */

struct bytes {
  unsigned char data[2048];
  size_t n;
};

static void put(struct bytes *to, const void *data, size_t n)
{
  assert_true(to->n + n <= sizeof to->data);
  memcpy(to->data + to->n, data, n);
  to->n += n;
}

static void u32(struct bytes *to, uint32_t value)
{
  put(to, &value, sizeof value);
}

static void u64(struct bytes *to, uint64_t value)
{
  put(to, &value, sizeof value);
}

static void text(struct bytes *to, const char *string, size_t n)
{
  u64(to, n);
  put(to, string, n);
}

static struct bytes header(uint64_t tensors, uint64_t values)
{
  struct bytes b = {.n = 0};
  put(&b, "GGUF", 4);
  u32(&b, 3);
  u64(&b, tensors);
  u64(&b, values);
  return b;
}

static void key(struct bytes *to, const char *name, enum xf_gguf_type type)
{
  text(to, name, strlen(name));
  u32(to, type);
}

static void tensor(struct bytes *to, const char *name, uint32_t type, uint64_t columns,
                   uint64_t rows, uint64_t offset)
{
  text(to, name, strlen(name));
  u32(to, 2);
  u64(to, columns);
  u64(to, rows);
  u32(to, type);
  u64(to, offset);
}

static void pad(struct bytes *to, size_t data)
{
  static const unsigned char zeros[256];
  put(to, zeros, (32 - to->n % 32) % 32 + data);
}

/* Opening fails with that status and a message that names the file and holds the words. */
static void bad(const struct bytes *file, xf_status expected, const char *words)
{
  struct xf_gguf gguf;
  xf_error error = {0};
  write_file(path, file->data, file->n);
  xf_status status = xf_gguf_open(path, &gguf, &error);
  if (status != expected || !strstr(error.message, path) || !strstr(error.message, words))
    fail_msg("status %d, not %d, with \"%s\": %s", status, expected, words, error.message);
  assert_true(!gguf.path && !gguf.values && !gguf.tensors && !gguf.file.data);
  assert_int_equal(xf_gguf_open(path, &gguf, NULL), expected);
}

static void test_header(void **state)
{
  (void)state;
  struct bytes b = {.n = 0};
  bad(&b, XF_E_FORMAT, "the header, at byte 0");
  put(&b, "GGML", 4);
  bad(&b, XF_E_FORMAT, "begin with GGUF");
  static const struct {
    uint32_t version;
    const char *words;
  } versions[] = {{0, "not 0"}, {1, "not 1"}, {4, "not 4"}, {3u << 24, "big-endian"}};
  for (size_t i = 0; i < 4; i++) {
    b = header(0, 0);
    memcpy(b.data + 4, &versions[i].version, 4);
    bad(&b, XF_E_UNSUPPORTED, versions[i].words);
  }
  static const uint64_t counts[] = {1, 1000, UINT64_C(1) << 63, UINT64_MAX};
  for (size_t i = 0; i < 4; i++) {
    b = header(counts[i], 0);
    bad(&b, XF_E_FORMAT, "more tensors or keys");
    b = header(0, counts[i]);
    bad(&b, XF_E_FORMAT, "more tensors or keys");
  }
}

static void test_keys(void **state)
{
  (void)state;
  struct bytes b = header(0, 1);
  u64(&b, UINT64_C(1) << 63);
  pad(&b, 32);
  bad(&b, XF_E_FORMAT, "a key, at byte 32: a string is longer");
  b = header(0, 1);
  text(&b, "a\xFF", 2);
  pad(&b, 32);
  bad(&b, XF_E_FORMAT, "a key, at byte 32: a string is not UTF-8");
  b = header(0, 1);
  text(&b, "a\0b", 3);
  pad(&b, 32);
  bad(&b, XF_E_FORMAT, "NUL");
  b = header(0, 2);
  for (size_t i = 0; i < 2; i++) {
    key(&b, "same.key", XF_GGUF_U32);
    u32(&b, 7);
  }
  bad(&b, XF_E_FORMAT, "key same.key, at byte 56: the key is there twice");
  b = header(0, 1);
  key(&b, "general.alignment", XF_GGUF_TYPES);
  pad(&b, 0);
  bad(&b, XF_E_FORMAT, "key general.alignment, at byte 53: unknown type");
}

static void test_values(void **state)
{
  (void)state;
  struct bytes b = header(0, 1);
  key(&b, "name", XF_GGUF_STRING);
  u64(&b, UINT64_MAX);
  bad(&b, XF_E_FORMAT, "key name, at byte 48: a string is longer");
  b = header(0, 1);
  key(&b, "name", XF_GGUF_STRING);
  text(&b, "\xED\xA0\x80", 3);
  bad(&b, XF_E_FORMAT, "key name, at byte 48: a string is not UTF-8");
  b = header(0, 1);
  key(&b, "name", XF_GGUF_F64);
  u32(&b, 0);
  bad(&b, XF_E_FORMAT, "key name, at byte 40: more elements");
  for (enum xf_gguf_type type = 0; type < XF_GGUF_TYPES; type++) {
    static const uint64_t counts[] = {9, UINT64_C(1) << 61, UINT64_C(1) << 63, UINT64_MAX};
    for (size_t i = 0; i < 4; i++) {
      b = header(0, 1);
      key(&b, "list", XF_GGUF_ARRAY);
      u32(&b, type);
      u64(&b, counts[i]);
      put(&b, "\0\0\0\0\0\0\0\0", 8);
      bad(&b, XF_E_FORMAT, type == XF_GGUF_ARRAY ? "arrays of arrays" : "key list, at byte 5");
    }
  }
  b = header(0, 1);
  key(&b, "list", XF_GGUF_ARRAY);
  u32(&b, XF_GGUF_STRING);
  u64(&b, 2);
  text(&b, "good", 4);
  text(&b, "\x80", 1);
  bad(&b, XF_E_FORMAT, "key list, at byte 72: a string is not UTF-8");
}

static void test_alignment(void **state)
{
  (void)state;
  static const uint32_t alignments[] = {0, 3, 33, 48, UINT32_C(1) << 31, UINT32_MAX};
  for (size_t i = 0; i < 6; i++) {
    struct bytes b = header(0, 1);
    key(&b, "general.alignment", XF_GGUF_U32);
    u32(&b, alignments[i]);
    bad(&b, XF_E_FORMAT, "general.alignment");
  }
  struct bytes b = header(0, 1);
  key(&b, "general.alignment", XF_GGUF_STRING);
  text(&b, "32", 2);
  bad(&b, XF_E_FORMAT, "general.alignment");
}

static void test_tensor_entries(void **state)
{
  (void)state;
  static const struct {
    const char *name;
    uint64_t columns, rows, offset;
    uint32_t type;
    xf_status status;
    const char *words;
  } rows[] = {
      {"t", UINT64_C(1) << 32, UINT64_C(1) << 32, 0, 0, XF_E_FORMAT, "tensor t, at byte 53: the p"},
      {"t", UINT64_C(1) << 31, UINT64_C(1) << 31, 0, 0, XF_E_FORMAT, "its size overflows"},
      {"t", UINT64_MAX, 1, 0, 30, XF_E_FORMAT, "its size overflows"},
      {"t", 33, 1, 0, 2, XF_E_FORMAT, "whole blocks"},
      {"t", 32, 1, 0, 4, XF_E_UNSUPPORTED, "tensor t, at byte 53: unknown element type 4"},
      {"t", 32, 1, 0, UINT32_MAX, XF_E_UNSUPPORTED, "unknown element type"},
      {"t", 4, 4, 4, 0, XF_E_FORMAT, "tensor t, at byte 4: its offset is no multiple"},
      {"t", 16, 16, 0, 0, XF_E_FORMAT, "not in the file"},
      {"t", 4, 4, 64, 0, XF_E_FORMAT, "not in the file"},
      {"t", 4, 4, UINT64_C(1) << 63, 0, XF_E_FORMAT, "not in the file"},
      {"t", 0, 4, UINT64_MAX - 31, 0, XF_E_FORMAT, "not in the file"},
      {"\xC0\x80", 4, 4, 0, 0, XF_E_FORMAT, "a tensor, at byte 32: a string is not UTF-8"},
      {"a name of sixty-five bytes, which is one more than the format has", 4, 4, 0, 0, XF_E_FORMAT,
       "too long"},
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    struct bytes b = header(1, 0);
    tensor(&b, rows[i].name, rows[i].type, rows[i].columns, rows[i].rows, rows[i].offset);
    pad(&b, 64);
    bad(&b, rows[i].status, rows[i].words);
  }
  struct bytes b = header(1, 0);
  text(&b, "t", 1);
  u32(&b, 5);
  pad(&b, 64);
  bad(&b, XF_E_FORMAT, "tensor t, at byte 37: more than four sizes");
}

static void test_tensor_pairs(void **state)
{
  (void)state;
  struct bytes b = header(2, 0);
  tensor(&b, "first", 0, 16, 1, 0);
  tensor(&b, "second", 0, 4, 1, 32);
  pad(&b, 64);
  bad(&b, XF_E_FORMAT, "tensor second, at byte 160: its data overlaps");
  b = header(2, 0);
  tensor(&b, "first", 0, 4, 1, 0);
  tensor(&b, "first", 0, 4, 1, 32);
  pad(&b, 64);
  bad(&b, XF_E_FORMAT, "tensor first, at byte");
  bad(&b, XF_E_FORMAT, "there twice");
  b = header(2, 0); /* the same file, put right */
  tensor(&b, "first", 0, 4, 1, 0);
  tensor(&b, "second", 0, 4, 1, 32);
  pad(&b, 64);
  struct xf_gguf gguf;
  xf_error error = {0};
  write_file(path, b.data, b.n);
  expect_ok(xf_gguf_open(path, &gguf, &error), &error);
  xf_gguf_close(&gguf);
  expect_status(xf_gguf_open("/nonexistent.gguf", &gguf, &error), XF_E_FILE, &error);
  expect_status(xf_gguf_open(folder, &gguf, &error), XF_E_FILE, &error);
}

/* ---- damage ---- */

static bool attempt(void *arg)
{
  (void)arg;
  xf_model *model;
  xf_error error = {0};
  xf_status status = xf_model_open(context, path, NULL, &model, &error);
  if (status != error.status || (status != XF_OK && !strstr(error.message, path)))
    fail_msg("status %d with the message \"%s\"", status, error.message);
  if (status == XF_E_MEMORY) fail_msg("asked for too much: %s", error.message);
  xf_model_close(model);
  return status == XF_OK;
}

static void add_vocabulary(struct xf_gguf_writer *writer, const void *arg)
{
  (void)arg;
  enum { VOCAB = 20 };
  struct xf_gguf_string tokens[VOCAB];
  float scores[VOCAB];
  for (size_t i = 0; i < VOCAB; i++) {
    tokens[i] = (struct xf_gguf_string){&"ab\xC3\xA4"[i % 3], i % 3 == 2 ? 2 : 1};
    scores[i] = -(float)i;
  }
  xf_gguf_add_string(writer, "tokenizer.ggml.model", "llama");
  xf_gguf_add_strings(writer, "tokenizer.ggml.tokens", tokens, VOCAB);
  xf_gguf_add_array(writer, "tokenizer.ggml.scores", XF_GGUF_F32, scores, VOCAB);
}

/* Every prefix, and 100,000 random bytes: each is refused or loads, and none makes the library ask
 * for much memory. */
static void test_damage(void **state)
{
  (void)state;
  enum { TIMES = 100000, METADATA = 2000 };
  convert_model(folder, other, (xf_convert_options){0});
  gguf_copy(other, path,
            &(struct gguf_edit){.drop = "tokenizer.ggml.model", .add = add_vocabulary});
  assert_true(attempt(NULL));
  failing_alloc_largest();
  assert_int_equal(damage_prefixes(path, attempt, NULL), 0);
  assert_in_range(damage_bytes(path, METADATA, TIMES, 4, attempt, NULL), 1, TIMES - 1);
  assert_true(attempt(NULL));
  /* Most goes to the list of layers, of which there are at most 4,096. */
  assert_in_range(failing_alloc_largest(), 1000, 1 << 20);
}

static void test_failing_allocations(void **state)
{
  (void)state;
  convert_model(folder, path, (xf_convert_options){0});
  assert_true(failing_alloc_open(context, path) > 15);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_header),         cmocka_unit_test(test_keys),
      cmocka_unit_test(test_values),         cmocka_unit_test(test_alignment),
      cmocka_unit_test(test_tensor_entries), cmocka_unit_test(test_tensor_pairs),
      cmocka_unit_test(test_damage),         cmocka_unit_test(test_failing_allocations),
  };
  return cmocka_run_group_tests(tests, start, finish);
}
