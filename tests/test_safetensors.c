/* Safetensors files, shards and their index: what is read, and what is refused. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "model/checkpoint.h"
#include "tests/damage.h"
#include "tests/failing_alloc.h"
#include "tests/folder.h"
#include "tests/support.h"
#include "tests/tiny_model.h"

/* A file with that header, and data bytes 0, 1, 2, … */
static void write_tensors(const char *name, const char *header, size_t data_bytes)
{
  uint64_t header_bytes = strlen(header);
  size_t bytes = 8 + header_bytes + data_bytes;
  unsigned char *file = malloc(bytes);
  memcpy(file, &header_bytes, 8);
  memcpy(file + 8, header, header_bytes);
  for (size_t i = 0; i < data_bytes; i++) file[8 + header_bytes + i] = (unsigned char)i;
  write_file(path_of(name), file, bytes);
  free(file);
}

static struct xf_checkpoint *open_good(void)
{
  struct xf_checkpoint *checkpoint = NULL;
  xf_error error = {0};
  if (xf_checkpoint_open(folder, NULL, &checkpoint, &error) != XF_OK) fail_msg("%s", error.message);
  return checkpoint;
}

/* Opening fails with that status, and a message that holds both words. */
static void bad_open(xf_status expected, const char *one, const char *other)
{
  struct xf_checkpoint *checkpoint;
  xf_error error = {0};
  xf_status status = xf_checkpoint_open(folder, NULL, &checkpoint, &error);
  if (status != expected || !strstr(error.message, one) || !strstr(error.message, other))
    fail_msg("status %d, not %d, with \"%s\" and \"%s\": %s", status, expected, one, other,
             error.message);
  assert_null(checkpoint);
  assert_int_equal(xf_checkpoint_open(folder, NULL, &checkpoint, NULL), expected);
}

static void bad_header(const char *header, size_t data_bytes, const char *word)
{
  write_tensors("model.safetensors", header, data_bytes);
  bad_open(XF_E_FORMAT, "model.safetensors: ", word);
}

static void test_good(void **state)
{
  (void)state;
  static const char header[] =
      "{\"__metadata__\":{\"format\":\"pt\"},"
      "\"matrix\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[2,26]},"
      "\"scalar\":{\"shape\":[],\"dtype\":\"BF16\",\"data_offsets\":[0,2]},"
      "\"four\":{\"dtype\":\"F16\",\"shape\":[1,2,1,2],\"data_offsets\":[26,34]},"
      "\"empty\":{\"dtype\":\"F32\",\"shape\":[0,7],\"data_offsets\":[34,34]},"
      "\"integers\":{\"dtype\":\"I64\",\"shape\":[1],\"data_offsets\":[34,42]},"
      "\"five\":{\"dtype\":\"F16\",\"shape\":[1,1,1,1,2],\"data_offsets\":[42,46]}} ";
  assert_int_equal(strlen(header) % 4, 1); /* so that the matrix is unaligned */
  write_tensors("model.safetensors", header, 46);
  struct xf_checkpoint *checkpoint = open_good();
  const struct xf_tensor *tensor = NULL;
  xf_error error;
  assert_int_equal(xf_checkpoint_get(checkpoint, "matrix", 2, 3, &tensor, &error), XF_OK);
  assert_int_equal(tensor->type, XF_F32);
  assert_int_equal(tensor->bytes, 24);
  assert_int_equal(*(const unsigned char *)tensor->data, 2);
  assert_string_equal(tensor->name, "matrix");
  xf_checkpoint_release(tensor);
  assert_int_equal(((const unsigned char *)tensor->data)[23], 25);
  assert_int_equal(xf_checkpoint_find(checkpoint, "scalar")->rank, 0);
  assert_int_equal(xf_checkpoint_find(checkpoint, "scalar")->type, XF_BF16);
  tensor = xf_checkpoint_find(checkpoint, "four");
  assert_int_equal(tensor->rank, 4);
  assert_int_equal(tensor->shape[3], 2);
  assert_int_equal(xf_checkpoint_find(checkpoint, "empty")->bytes, 0);
  assert_int_equal(xf_checkpoint_get(checkpoint, "integers", 1, 0, &tensor, &error),
                   XF_E_UNSUPPORTED);
  assert_non_null(strstr(error.message, "model.safetensors: tensor integers"));
  assert_non_null(strstr(error.message, "BF16 are supported, not I64"));
  assert_int_equal(xf_checkpoint_get(checkpoint, "five", 1, 1, &tensor, &error), XF_E_SHAPE);
  assert_non_null(strstr(error.message, "[1, 1, 1, 1, …]"));
  assert_int_equal(xf_checkpoint_get(checkpoint, "matrix", 3, 2, &tensor, &error), XF_E_SHAPE);
  assert_non_null(strstr(error.message, "tensor matrix has the shape [2, 3]"));
  assert_non_null(strstr(error.message, "needs [3, 2]"));
  assert_int_equal(xf_checkpoint_get(checkpoint, "matrix", 2, 0, &tensor, &error), XF_E_SHAPE);
  assert_int_equal(xf_checkpoint_get(checkpoint, "none", 2, 0, &tensor, &error), XF_E_FORMAT);
  assert_non_null(strstr(error.message, "no tensor none"));
  assert_null(xf_checkpoint_find(checkpoint, "__metadata__"));
  xf_checkpoint_close(checkpoint);
  xf_checkpoint_close(NULL);
  write_tensors("model.safetensors", "{}", 0);
  xf_checkpoint_close(open_good());
}

static void test_bad_entries(void **state)
{
  (void)state;
  static const struct {
    const char *entry, *word;
  } rows[] = {
      {"{\"shape\":[2],\"data_offsets\":[0,8]}", "dtype"},
      {"{\"dtype\":32,\"shape\":[2],\"data_offsets\":[0,8]}", "dtype"},
      {"{\"dtype\":\"F32\",\"data_offsets\":[0,8]}", "shape"},
      {"{\"dtype\":\"F32\",\"shape\":2,\"data_offsets\":[0,8]}", "shape"},
      {"{\"dtype\":\"F32\",\"shape\":[-2],\"data_offsets\":[0,8]}", "shape"},
      {"{\"dtype\":\"F32\",\"shape\":[2.5],\"data_offsets\":[0,8]}", "shape"},
      {"{\"dtype\":\"F32\",\"shape\":[\"2\"],\"data_offsets\":[0,8]}", "shape"},
      {"{\"dtype\":\"F32\",\"shape\":[1e18],\"data_offsets\":[0,8]}", "shape"},
      {"{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,8]}", "overflows"},
      {"{\"dtype\":\"F32\",\"shape\":[4294967296,1073741824],\"data_offsets\":[0,8]}", "disagree"},
      {"{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,8]}", "disagree"},
      {"{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[0,8]}", "disagree"},
      {"{\"dtype\":\"F32\",\"shape\":[2]}", "data_offsets"},
      {"{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0]}", "data_offsets"},
      {"{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8,8]}", "data_offsets"},
      {"{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,-8]}", "data_offsets"},
      {"{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":{\"a\":0,\"b\":8}}", "data_offsets"},
      {"{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,0]}", "not in the file"},
      {"{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[1,9]}", "not in the file"},
      {"{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[9e15,9e15]}", "not in the file"},
      {"{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}", "hole"},
      {"{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}", "4 bytes behind"},
      {"7", "dtype"},
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    char header[256];
    snprintf(header, sizeof header, "{\"x\":%s}", rows[i].entry);
    bad_header(header, 8, rows[i].word);
    if (!strstr(rows[i].word, "behind")) bad_header(header, 8, "tensor x");
  }
}

#define HALF(name, begin, end)                                                                     \
  "\"" name "\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[" begin "," end "]}"

static void test_bad_files(void **state)
{
  (void)state;
  bad_header("{" HALF("a", "0", "4") "," HALF("b", "2", "6") "}", 6, "overlap");
  bad_header("{" HALF("a", "0", "4") "," HALF("b", "0", "4") "}", 4, "overlap");
  bad_header("{" HALF("a", "0", "4") "," HALF("b", "6", "10") "}", 10, "hole");
  bad_header("{" HALF("a", "0", "4") "," HALF("a", "4", "8") "}", 8, "\"a\" twice");
  bad_header("{\"__metadata__\":{\"x\":1}," HALF("a", "0", "4") "}", 4, "__metadata__");
  bad_header("{\"__metadata__\":[]," HALF("a", "0", "4") "}", 4, "__metadata__");
  bad_header("[]", 0, "object");
  bad_header("", 0, "empty");
  bad_header("{}", 1, "1 bytes behind");
  static const unsigned char lengths[][10] = {{255, 255, 255, 255, 255, 255, 255, 255, '{', '}'},
                                              {3, 0, 0, 0, 0, 0, 0, 0, '{', '}'}};
  for (size_t i = 0; i < 2; i++) {
    write_file(path_of("model.safetensors"), lengths[i], 10);
    bad_open(XF_E_FORMAT, "model.safetensors: ", "length");
  }
  remove(path_of("model.safetensors"));
  bad_open(XF_E_FILE, folder, "neither model.safetensors nor");
  assert_int_equal(mkfifo(path_of("model.safetensors"), 0600), 0);
  bad_open(XF_E_FILE, "model.safetensors", "regular file");
  remove(path_of("model.safetensors"));
}

static void write_index(const char *text)
{
  write_file(path_of("model.safetensors.index.json"), text, strlen(text));
}

static void test_index(void **state)
{
  (void)state;
  write_tensors("one.safetensors", "{" HALF("a", "0", "4") "," HALF("b", "4", "8") "}", 8);
  write_tensors("two.safetensors", "{" HALF("c", "0", "4") "," HALF("b", "4", "8") "}", 8);
  write_index("{\"weight_map\":{\"c\":\"two.safetensors\",\"a\":\"one.safetensors\","
              "\"b\":\"two.safetensors\"}}");
  struct xf_checkpoint *checkpoint = open_good();
  const struct xf_tensor *b = xf_checkpoint_find(checkpoint, "b");
  assert_non_null(strstr(b->path, "/two.safetensors"));
  assert_non_null(strstr(xf_checkpoint_find(checkpoint, "a")->path, "/one.safetensors"));
  xf_checkpoint_keep_only(checkpoint, b);
  assert_null(xf_checkpoint_find(checkpoint, "a"));
  assert_int_equal(*(const unsigned char *)b->data, 4);
  xf_checkpoint_close(checkpoint);
  static const struct {
    const char *map, *file, *word;
    xf_status status;
  } rows[] = {
      {"{\"a\":\"three.safetensors\"}", "three.safetensors: ", "cannot open", XF_E_FILE},
      {"{\"c\":\"one.safetensors\"}", "one.safetensors: ", "c", XF_E_FORMAT},
      {"{\"a\":\"../x.safetensors\"}", "index.json: ", "own folder", XF_E_FORMAT},
      {"{\"a\":\"/etc/passwd\"}", "index.json: ", "own folder", XF_E_FORMAT},
      {"{\"a\":\"..\"}", "index.json: ", "own folder", XF_E_FORMAT},
      {"{\"a\":\"\"}", "index.json: ", "own folder", XF_E_FORMAT},
      {"{\"a\":1}", "index.json: ", "tensor a", XF_E_FORMAT},
      {"{}", "index.json: ", "weight_map", XF_E_FORMAT},
      {"[\"one.safetensors\"]", "index.json: ", "weight_map", XF_E_FORMAT},
      {"{\"a\":\"one.safetensors\",\"a\":\"one.safetensors\"}", "index.json: ", "\"a\" twice",
       XF_E_FORMAT},
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    char text[256];
    snprintf(text, sizeof text, "{\"weight_map\":%s}", rows[i].map);
    write_index(text);
    bad_open(rows[i].status, rows[i].file, rows[i].word);
  }
  write_index("{\"metadata\":{}}");
  bad_open(XF_E_FORMAT, "index.json: ", "weight_map");
}

/* Reads every byte of every tensor, so that a sanitizer or the MMU sees a bad pointer. */
static unsigned touch(struct xf_checkpoint *checkpoint)
{
  unsigned sum = 0;
  static const char *const names[] = {"model.embed_tokens.weight", "model.norm.weight",
                                      "model.layers.0.mlp.down_proj.weight"};
  for (size_t i = 0; i < 3; i++) {
    const struct xf_tensor *tensor = xf_checkpoint_find(checkpoint, names[i]);
    for (size_t j = 0; tensor && j < tensor->bytes; j++)
      sum += ((const unsigned char *)tensor->data)[j];
  }
  return sum;
}

static bool attempt(void *expected)
{
  struct xf_checkpoint *checkpoint;
  xf_error error = {0};
  xf_status status = xf_checkpoint_open(folder, NULL, &checkpoint, &error);
  if (status != XF_OK && (error.status != status || !error.message[0])) fail_msg("no message");
  if (expected && status != *(xf_status *)expected) fail_msg("status %d", status);
  if (status == XF_OK) touch(checkpoint);
  xf_checkpoint_close(checkpoint);
  return status == XF_OK;
}

static void damage(const char *name, uint64_t seed)
{
  xf_status malformed = XF_E_FORMAT;
  damage_prefixes(path_of(name), attempt, &malformed);
  size_t accepted = damage_bytes(path_of(name), 1000, 10000, seed, attempt, NULL);
  assert_in_range(accepted, 1, 9999);
  assert_true(attempt(NULL));
}

static void fail_allocations(void)
{
  for (size_t n = 0;; n++) {
    struct xf_checkpoint *checkpoint;
    failing_alloc_after(n);
    xf_status status = xf_checkpoint_open(folder, NULL, &checkpoint, NULL);
    if (failing_alloc_off() == 0) {
      assert_int_equal(status, XF_OK);
      xf_checkpoint_close(checkpoint);
      break;
    }
    assert_int_equal(status, XF_E_MEMORY);
  }
}

static void test_damaged_file(void **state)
{
  (void)state;
  struct tiny_model model = tiny_model_smallest();
  model.type = XF_BF16;
  tiny_model_write(&model, folder);
  fail_allocations();
  damage("model.safetensors", 1);
  remove(path_of("model.safetensors"));
}

static void test_damaged_index(void **state)
{
  (void)state;
  struct tiny_model model = tiny_model_smallest();
  model.shards = 2;
  tiny_model_write(&model, folder);
  fail_allocations();
  damage("model.safetensors.index.json", 2);
  damage("model-00002-of-00002.safetensors", 3);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_good),         cmocka_unit_test(test_bad_entries),
      cmocka_unit_test(test_bad_files),    cmocka_unit_test(test_index),
      cmocka_unit_test(test_damaged_file), cmocka_unit_test(test_damaged_index),
  };
  return cmocka_run_group_tests(tests, make_folder, free_folder);
}
