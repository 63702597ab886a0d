/* .tflite files that cannot be read: other models, damaged files, allocations that fail. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/flexbuffers.h"
#include "tests/compare.h"
#include "tests/damage.h"
#include "tests/failing_alloc.h"
#include "tests/folder.h"
#include "tests/model_support.h"
#include "tests/tflite_model.h"

static xf_context *context;
static char *path;

static int start(void **state)
{
  struct tiny_model tiny = tiny_model_smallest();
  context = open_context(NULL, 1);
  make_folder(state);
  path = strdup(path_of("model.tflite"));
  tiny.layers = 2;
  tiny_model_write(&tiny, folder);
  return 0;
}

static int finish(void **state)
{
  xf_context_destroy(context);
  free(path);
  return free_folder(state);
}

static xf_status open_path(xf_error *error)
{
  xf_model *model;
  *error = (xf_error){0};
  xf_status status = xf_model_open(context, path, NULL, &model, error);
  if (status != error->status || (status != XF_OK && !strstr(error->message, path)))
    fail_msg("status %d with the message \"%s\"", status, error->message);
  xf_model_close(model);
  return status;
}

static void bad(const struct tflite_model *model, xf_status expected, const char *words)
{
  xf_error error;
  tflite_model_write(model, folder, path);
  xf_status status = open_path(&error);
  if (status != expected || !strstr(error.message, words))
    fail_msg("status %d, not %d, with \"%s\": %s", status, expected, words, error.message);
}

static void test_variants(void **state)
{
  (void)state;
  const struct {
    struct tflite_model model;
    const char *words;
  } rows[] = {
      {{.signature = "serving_default"}, "no signature \"decode\""},
      {{.scale = 1.01f}, "layer 1, counted from the last: the attention's scale"},
      {{.epsilon = 0.5f}, "epsilons are not one number"},
      {{.type = XF_I8, .zero_point = 1}, "without zero points"},
      {{.fixed_slot = true},
       "layer 1, counted from the last: k or v is not stored at its position"},
      {{.stored_along = 1}, "k or v is not stored at its position"},
      {{.stored_along = 3}, "k or v is not stored at its position"},
      {{.stored_along = 4, .table = true}, "k or v is not stored at its position"},
      {{.unmasked = true}, "the mask is neither causal"},
      {{.rotates_tokens = true}, "is not rotated in halves by positions"},
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
    bad(&rows[i].model, XF_E_UNSUPPORTED, rows[i].words);
}

/* Whichever operator is another: no wrong numbers, but a message. */
static void test_unknown_operators(void **state)
{
  (void)state;
  for (int table = 0; table < 2; table++) {
    struct tflite_model model = {.table = table};
    int ops = tflite_model_write(&model, folder, path);
    assert_in_range(ops, 60, 120);
    for (model.change = 1; model.change <= ops; model.change++) {
      this_case("operator %d", model.change - 1);
      bad(&model, XF_E_UNSUPPORTED, "is not that of a Llama");
    }
  }
}

static void test_no_files(void **state)
{
  (void)state;
  xf_error error;
  static const unsigned char wrong[] = "\x08\0\0\0TFL9 and nothing that is of use";
  static const unsigned char empty[] = {8, 0, 0, 0, 'T', 'F', 'L', '3', 0, 0, 0, 0, 0, 0, 0, 0};
  remove(path);
  assert_int_equal(open_path(&error), XF_E_FILE);
  write_file(path, "", 0);
  assert_int_equal(open_path(&error), XF_E_FORMAT);
  write_file(path, wrong, sizeof wrong);
  assert_int_equal(open_path(&error), XF_E_FORMAT);
  assert_non_null(strstr(error.message, "does not begin as a .tflite file"));
  write_file(path, empty, sizeof empty);
  assert_int_not_equal(open_path(&error), XF_OK);
}

static bool attempt(void *arg)
{
  (void)arg;
  xf_error error;
  xf_status status = open_path(&error);
  if (status == XF_E_MEMORY) fail_msg("asked for too much: %s", error.message);
  return status == XF_OK;
}

/* Every prefix, and 20,000 random bytes: each is refused or loads, and none makes the library ask
 * for much memory. */
static void test_damage(void **state)
{
  (void)state;
  enum { TIMES = 20000 };
  for (int outside = 0; outside < 2; outside++) {
    tflite_model_write(&(struct tflite_model){.outside = outside, .cache = 8}, folder, path);
    assert_true(attempt(NULL));
    failing_alloc_largest();
    assert_int_equal(damage_prefixes(path, attempt, NULL), 0);
    assert_in_range(damage_bytes(path, 0, TIMES, 4, attempt, NULL), 1, TIMES - 1);
    assert_true(attempt(NULL));
    assert_in_range(failing_alloc_largest(), 1000, 1 << 20);
  }
}

/* The same of a file from LiteRT's converter, of which prefixes are tried at steps. */
static void test_fixture_damage(void **state)
{
  (void)state;
  enum { STEP = 14983, TIMES = 1000 };
  size_t bytes;
  unsigned char *data = read_file(fixture("litert/tl-mini_q8_ekv256.tflite"), &bytes);
  for (size_t n = 0; n < bytes; n += STEP) {
    write_file(path, data, n);
    assert_false(attempt(NULL));
  }
  write_file(path, data, bytes);
  damage_bytes(path, 400000, TIMES, 5, attempt, NULL); /* the graphs come first */
  free(data);
}

static void test_failing_allocations(void **state)
{
  (void)state;
  tflite_model_write(&(struct tflite_model){0}, folder, path);
  assert_true(failing_alloc_open(context, path) > 15);
}

/* Attributes with every byte cut off or changed to any value. */
static void test_attributes(void **state)
{
  (void)state;
  static const unsigned char map[] = {'s', 'c', 'a', 'l', 'e', 0,    0,    0,    1,  0, 0,  0,
                                      12,  0,   0,   0,   4,   0,    0,    0,    4,  0, 0,  0,
                                      1,   0,   0,   0,   0,   0x00, 0x20, 0x41, 14, 5, 38, 1};
  struct xf_flex_number scale = {.name = "scale"};
  xf_error error = {0};
  expect_ok(xf_flex_read_numbers("x", map, sizeof map, &scale, 1, &error), &error);
  assert_true(scale.found && scale.value == 10);
  struct guarded buffer = guarded_new(sizeof map);
  for (size_t n = 0; n < sizeof map; n++) {
    unsigned char *cut = (unsigned char *)buffer.data + sizeof map - n;
    memcpy(cut, map, n);
    assert_int_equal(xf_flex_read_numbers("x", cut, n, &scale, 1, &error) == XF_OK, n == 0);
  }
  for (size_t i = 0; i < sizeof map * 256; i++) {
    memcpy(buffer.data, map, sizeof map);
    ((unsigned char *)buffer.data)[i / 256] = (unsigned char)i;
    (void)xf_flex_read_numbers("x", buffer.data, sizeof map, &scale, 1, &error);
  }
  guarded_free(&buffer);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_variants),       cmocka_unit_test(test_unknown_operators),
      cmocka_unit_test(test_no_files),       cmocka_unit_test(test_damage),
      cmocka_unit_test(test_fixture_damage), cmocka_unit_test(test_failing_allocations),
      cmocka_unit_test(test_attributes),
  };
  return cmocka_run_group_tests(tests, start, finish);
}
