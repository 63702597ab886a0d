/* GGUF files: what the writer writes the reader reads; and a file that cannot be completed leaves
 * nothing behind. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/gguf_write.h"
#include "tests/failing_alloc.h"
#include "tests/folder.h"
#include "tests/model_support.h"
#include "tests/support.h"

static struct xf_gguf_writer *new_writer(void)
{
  struct xf_gguf_writer *writer;
  assert_int_equal(xf_gguf_writer_create(&writer, NULL), XF_OK);
  return writer;
}

static const struct xf_gguf_string strings[] = {{"", 0}, {"zwölf", 6}, {"a\0b", 3}};
static const int8_t small[] = {-128, 0, 127};
static const uint16_t middle[] = {65535};
static const int64_t large[] = {INT64_MIN, -1, INT64_MAX};
static const uint64_t largest[] = {UINT64_MAX, 1};
static const double wide[] = {0.1, -1e300};
static const float single[] = {0.5f, -2.0f, 3.0f};

static void add_values(struct xf_gguf_writer *writer)
{
  xf_gguf_add_string(writer, "general.architecture", "llama");
  xf_gguf_add_bool(writer, "yes", true);
  xf_gguf_add_bool(writer, "no", false);
  xf_gguf_add_u32(writer, "u32", 4000000000u);
  xf_gguf_add_f32(writer, "f32", 0.25f);
  xf_gguf_add_array(writer, "i8", XF_GGUF_I8, small, 3);
  xf_gguf_add_array(writer, "u16", XF_GGUF_U16, middle, 1);
  xf_gguf_add_array(writer, "i64", XF_GGUF_I64, large, 3);
  xf_gguf_add_array(writer, "u64", XF_GGUF_U64, largest, 2);
  xf_gguf_add_array(writer, "f64", XF_GGUF_F64, wide, 2);
  xf_gguf_add_array(writer, "single", XF_GGUF_F32, single, 3);
  xf_gguf_add_array(writer, "empty", XF_GGUF_I32, NULL, 0);
  xf_gguf_add_strings(writer, "strings", strings, 3);
}

static const struct xf_gguf_value *array(const struct xf_gguf *gguf, const char *key,
                                         enum xf_gguf_type elements, size_t n)
{
  const struct xf_gguf_value *value = NULL;
  xf_error error = {0};
  expect_ok(xf_gguf_get_array(gguf, key, elements, &value, &error), &error);
  assert_non_null(value);
  assert_int_equal(value->n, n);
  return value;
}

static void check_arrays(const struct xf_gguf *gguf)
{
  for (size_t i = 0; i < 3; i++) {
    assert_int_equal(xf_gguf_integer_at(array(gguf, "i8", XF_GGUF_I64, 3), i), small[i]);
    assert_int_equal(xf_gguf_integer_at(array(gguf, "i64", XF_GGUF_I64, 3), i), large[i]);
    assert_true(xf_gguf_number_at(array(gguf, "single", XF_GGUF_F64, 3), i) == (double)single[i]);
  }
  assert_int_equal(xf_gguf_integer_at(array(gguf, "u16", XF_GGUF_I64, 1), 0), 65535);
  assert_int_equal(xf_gguf_integer_at(array(gguf, "u64", XF_GGUF_I64, 2), 0), INT64_MAX);
  assert_int_equal(xf_gguf_integer_at(array(gguf, "u64", XF_GGUF_I64, 2), 1), 1);
  assert_true(xf_gguf_number_at(array(gguf, "f64", XF_GGUF_F64, 2), 1) == wide[1]);
  assert_true(xf_gguf_number_at(array(gguf, "i8", XF_GGUF_F64, 3), 0) == -128);
  array(gguf, "empty", XF_GGUF_I64, 0);
  struct xf_gguf_string got[3];
  xf_gguf_strings(array(gguf, "strings", XF_GGUF_STRING, 3), got);
  for (size_t i = 0; i < 3; i++) {
    assert_int_equal(got[i].bytes, strings[i].bytes);
    assert_memory_equal(got[i].text, strings[i].text, strings[i].bytes);
  }
}

static void check_scalars(const struct xf_gguf *gguf)
{
  int64_t integer = 7;
  double number = 7;
  bool truth = true;
  struct xf_gguf_string string = {"", 0};
  assert_int_equal(xf_gguf_get_integer(gguf, "none", 0, 1, &integer, NULL), XF_OK);
  assert_int_equal(xf_gguf_get_number(gguf, "none", 0, 1, &number, NULL), XF_OK);
  assert_int_equal(xf_gguf_get_bool(gguf, "none", &truth, NULL), XF_OK);
  assert_int_equal(xf_gguf_get_string(gguf, "none", &string, NULL), XF_OK);
  assert_true(integer == 7 && number == 7 && truth && string.bytes == 0);
  assert_int_equal(xf_gguf_get_integer(gguf, "u32", 0, UINT32_MAX, &integer, NULL), XF_OK);
  assert_int_equal(xf_gguf_get_number(gguf, "f32", 0, 1, &number, NULL), XF_OK);
  assert_int_equal(xf_gguf_get_bool(gguf, "no", &truth, NULL), XF_OK);
  assert_int_equal(xf_gguf_get_string(gguf, "general.architecture", &string, NULL), XF_OK);
  assert_true(integer == 4000000000 && number == 0.25 && !truth);
  assert_true(xf_gguf_string_equal(string, "llama"));
  assert_false(xf_gguf_string_equal(string, "llam") || xf_gguf_string_equal(string, "llamas"));
  assert_int_equal(xf_gguf_get_bool(gguf, "yes", &truth, NULL), XF_OK);
  assert_true(truth);
}

/* Another type or range: the message names file and key, and *out stays. */
static void check_refusals(const struct xf_gguf *gguf)
{
  int64_t integer = 7;
  double number = 7;
  bool truth = true;
  struct xf_gguf_string string = {"", 0};
  const struct xf_gguf_value *value = NULL;
  xf_error error[8] = {0};
  xf_gguf_get_integer(gguf, "f32", 0, 9, &integer, &error[0]);
  xf_gguf_get_integer(gguf, "u32", 0, 9, &integer, &error[1]);
  xf_gguf_get_integer(gguf, "i8", -128, 127, &integer, &error[2]);
  xf_gguf_get_number(gguf, "yes", 0, 9, &number, &error[3]);
  xf_gguf_get_number(gguf, "f32", 1, 9, &number, &error[4]);
  xf_gguf_get_bool(gguf, "u32", &truth, &error[5]);
  xf_gguf_get_string(gguf, "strings", &string, &error[6]);
  xf_gguf_get_array(gguf, "single", XF_GGUF_I64, &value, &error[7]);
  for (size_t i = 0; i < 8; i++) {
    static const char *const keys[] = {"f32", "u32", "i8",      "yes",
                                       "f32", "u32", "strings", "single"};
    assert_int_equal(error[i].status, XF_E_FORMAT);
    assert_non_null(strstr(error[i].message, gguf->path));
    assert_non_null(strstr(error[i].message, keys[i]));
    assert_non_null(strstr(error[i].message, "byte"));
  }
  assert_true(integer == 7 && number == 7 && truth && string.bytes == 0 && !value);
  assert_int_equal(xf_gguf_get_array(gguf, "f32", XF_GGUF_F64, &value, NULL), XF_E_FORMAT);
  assert_int_equal(xf_gguf_get_array(gguf, "i8", XF_GGUF_STRING, &value, NULL), XF_E_FORMAT);
}

static const struct {
  const char *name;
  uint32_t type;
  size_t rank, shape[4], bytes;
} tensors[] = {
    {"scalar", 0, 0, {0}, 4},         {"vector", 1, 1, {3}, 6},  {"matrix", 30, 2, {5, 7}, 70},
    {"four", 0, 4, {2, 1, 3, 2}, 48}, {"none", 0, 2, {0, 4}, 0}, {"q4_0", 2, 2, {3, 64}, 108},
    {"q6_k", 14, 2, {2, 256}, 420},   {"q8_0", 8, 1, {32}, 34},  {"after", 0, 1, {1}, 4}};

enum { TENSORS = sizeof tensors / sizeof *tensors };

static void add_tensors(struct xf_gguf_writer *writer)
{
  for (size_t i = 0; i < TENSORS; i++)
    xf_gguf_add_tensor(writer, tensors[i].name, xf_ggml_type_find(tensors[i].type), tensors[i].rank,
                       tensors[i].shape);
}

/* Tensor i is filled with i + 1; the pieces grow from one byte. */
static xf_status give_data(struct xf_gguf_writer *writer, xf_error *error)
{
  for (size_t i = 0; i < TENSORS; i++) {
    unsigned char data[512];
    memset(data, (int)i + 1, sizeof data);
    for (size_t given = 0, piece = 1; given < tensors[i].bytes; given += piece, piece *= 2) {
      if (piece > tensors[i].bytes - given) piece = tensors[i].bytes - given;
      xf_status status = xf_gguf_writer_data(writer, data, piece, error);
      if (status != XF_OK) return status;
    }
  }
  return XF_OK;
}

static void check_tensors(struct xf_gguf *gguf)
{
  assert_int_equal(gguf->n_tensors, TENSORS);
  for (size_t i = 0; i < TENSORS; i++) {
    const struct xf_tensor *t = xf_tensor_find(gguf->tensors, gguf->n_tensors, tensors[i].name);
    const struct xf_ggml_type *type = xf_ggml_type_find(tensors[i].type);
    assert_non_null(t);
    assert_int_equal(t->rank, tensors[i].rank);
    assert_memory_equal(t->shape, tensors[i].shape, sizeof t->shape);
    assert_int_equal(t->bytes, tensors[i].bytes);
    assert_int_equal(t->type, type->type);
    assert_string_equal(t->dtype, type->name);
    assert_int_equal(((uintptr_t)t->data - (uintptr_t)gguf->file.data) % 32, 0);
    for (size_t b = 0; b < t->bytes; b++)
      assert_int_equal(((const unsigned char *)t->data)[b], i + 1);
  }
}

static void test_round_trip(void **state)
{
  (void)state;
  const char *path = path_of("round.gguf");
  struct xf_gguf_writer *writer = new_writer();
  xf_error error = {0};
  write_file(path, "an older file", 13);
  add_values(writer);
  add_tensors(writer);
  expect_ok(xf_gguf_writer_start(writer, path, &error), &error);
  expect_ok(give_data(writer, &error), &error);
  assert_int_equal(files_in_folder(), 2);
  expect_ok(xf_gguf_writer_finish(writer, &error), &error);
  xf_gguf_writer_destroy(writer);
  assert_int_equal(files_in_folder(), 1);
  for (unsigned char version = 3; version >= 2; version--) { /* both have the same layout */
    size_t bytes;
    unsigned char *file = read_file(path, &bytes);
    file[4] = version;
    write_file(path, file, bytes);
    free(file);
    struct xf_gguf gguf;
    expect_ok(xf_gguf_open(path, &gguf, &error), &error);
    assert_int_equal(gguf.n_values, 13);
    check_scalars(&gguf);
    check_arrays(&gguf);
    check_refusals(&gguf);
    check_tensors(&gguf);
    xf_gguf_close(&gguf);
  }
}

static void test_empty(void **state)
{
  (void)state;
  struct xf_gguf_writer *writer = new_writer();
  struct xf_gguf gguf;
  xf_error error = {0};
  expect_ok(xf_gguf_writer_start(writer, path_of("empty.gguf"), &error), &error);
  expect_ok(xf_gguf_writer_finish(writer, &error), &error);
  xf_gguf_writer_destroy(writer);
  expect_ok(xf_gguf_open(path_of("empty.gguf"), &gguf, &error), &error);
  assert_int_equal(gguf.n_values + gguf.n_tensors, 0);
  assert_null(xf_gguf_find(&gguf, "general.architecture"));
  xf_gguf_close(&gguf);
}

enum fault { TWICE, NO_UTF8, LONG_NAME, NUL_KEY, TOO_MUCH, TOO_LITTLE, NO_TENSOR, FAULTS };

static void add_fault(struct xf_gguf_writer *writer, enum fault fault)
{
  static const char long_name[] =
      "a name of more than sixty-four bytes, which no tensor may have: x";
  const struct xf_gguf_value nul = {.key = {"a\0b", 3},
                                    .type = XF_GGUF_U8,
                                    .n = 1,
                                    .data = (const unsigned char *)"",
                                    .bytes = 1};
  if (fault == TWICE) xf_gguf_add_u32(writer, "u32", 1);
  if (fault == NO_UTF8) xf_gguf_add_string(writer, "broken", "\xC3");
  if (fault == LONG_NAME)
    xf_gguf_add_tensor(writer, long_name, xf_ggml_type_of(XF_F32), 1, (const size_t[]){0});
  if (fault == NUL_KEY) xf_gguf_add_value(writer, &nul);
  if (fault == TOO_LITTLE)
    xf_gguf_add_tensor(writer, "rest", xf_ggml_type_of(XF_F32), 1, (const size_t[]){1});
}

/* What goes wrong leaves the older file as it was, and nothing beside it. */
static void test_faults(void **state)
{
  (void)state;
  const char *path = path_of("old.gguf");
  write_file(path, "old", 3);
  for (enum fault fault = 0; fault < FAULTS; fault++) {
    struct xf_gguf_writer *writer = new_writer();
    xf_error error = {0};
    add_values(writer);
    if (fault != NO_TENSOR) add_tensors(writer);
    add_fault(writer, fault);
    expect_ok(xf_gguf_writer_start(writer, path, &error), &error);
    xf_status status = give_data(writer, &error);
    if (status == XF_OK && fault == TOO_MUCH) status = xf_gguf_writer_data(writer, "", 1, &error);
    if (status == XF_OK) status = xf_gguf_writer_finish(writer, &error);
    expect_status(status, fault < TOO_MUCH ? XF_E_FORMAT : XF_E_ARGUMENT, &error);
    xf_gguf_writer_destroy(writer);
    size_t bytes;
    unsigned char *old = read_file(path, &bytes);
    assert_int_equal(bytes, 3);
    free(old);
    assert_int_equal(files_in_folder(), 1);
  }
}

static void test_no_start(void **state)
{
  (void)state;
  struct xf_gguf_writer *writer = new_writer();
  xf_error error = {0};
  expect_status(xf_gguf_writer_start(writer, path_of("no/folder.gguf"), &error), XF_E_FILE, &error);
  xf_gguf_add_tensor(writer, "huge", xf_ggml_type_of(XF_F32), 2,
                     (const size_t[]){(size_t)1 << 40, (size_t)1 << 40});
  xf_status status = xf_gguf_writer_start(writer, path_of("x.gguf"), &error);
  assert_non_null(strstr(error.message, "huge"));
  expect_status(status, XF_E_ARGUMENT, &error);
  xf_gguf_writer_destroy(writer);
  xf_gguf_writer_destroy(NULL);
  assert_int_equal(files_in_folder(), 0);
}

static xf_status write_all(const char *path, xf_error *error)
{
  struct xf_gguf_writer *writer;
  xf_status status = xf_gguf_writer_create(&writer, error);
  if (status != XF_OK) return status;
  add_values(writer);
  add_tensors(writer);
  status = xf_gguf_writer_start(writer, path, error);
  if (status == XF_OK) status = give_data(writer, error);
  if (status == XF_OK) status = xf_gguf_writer_finish(writer, error);
  xf_gguf_writer_destroy(writer);
  return status;
}

static void test_failing_allocations(void **state)
{
  (void)state;
  const char *path = path_of("x.gguf");
  size_t n = 0;
  for (;; n++) {
    xf_error error = {0};
    failing_alloc_after(n);
    if (!failing_alloc_failed(write_all(path, &error), &error)) break;
    assert_int_equal(files_in_folder(), 0);
  }
  assert_int_equal(files_in_folder(), 1);
  assert_true(n > 8);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_round_trip, make_folder, free_folder),
      cmocka_unit_test_setup_teardown(test_empty, make_folder, free_folder),
      cmocka_unit_test_setup_teardown(test_faults, make_folder, free_folder),
      cmocka_unit_test_setup_teardown(test_no_start, make_folder, free_folder),
      cmocka_unit_test_setup_teardown(test_failing_allocations, make_folder, free_folder),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
