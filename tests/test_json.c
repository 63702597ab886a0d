/* JSON files: what cJSON would let pass is refused with a message that names the file. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/json.h"
#include "tests/failing_alloc.h"
#include "tests/support.h"

/* Parses bytes that end at a page that cannot be read. */
static xf_status parse(const char *text, size_t bytes, cJSON **json, xf_error *error)
{
  struct guarded copy = guarded_new(bytes);
  if (bytes) memcpy(copy.data, text, bytes);
  xf_status status = xf_json_parse("x.json", copy.data, bytes, json, error);
  guarded_free(&copy);
  return status;
}

static void bad(const char *text, size_t bytes, xf_status expected, const char *word)
{
  cJSON *json;
  xf_error error = {0};
  assert_int_equal(parse(text, bytes, &json, &error), expected);
  assert_null(json);
  assert_int_equal(strncmp(error.message, "x.json: ", 8), 0);
  if (!strstr(error.message, word)) fail_msg("no \"%s\" in: %s", word, error.message);
}

static void bad_string(const char *text, const char *word)
{
  bad(text, strlen(text), XF_E_FORMAT, word);
}

static void test_malformed(void **state)
{
  (void)state;
  bad_string("", "empty");
  bad_string("   ", "malformed");
  bad_string("[]", "object");
  bad_string("null", "object");
  bad_string("17", "object");
  bad_string("{} {}", "behind");
  bad_string("{\"a\":1,", "truncated");
  bad_string("{\"a\":1,}", "malformed");
  bad_string("{\"a\"", "truncated");
  bad_string("{\"a\":\"", "truncated");
  bad_string("{\"a\":tru", "truncated");
  bad_string("{\"a\":1-2}", "malformed");
  bad_string("{a:1}", "malformed");
}

static void test_characters(void **state)
{
  (void)state;
  bad("{\"a\":1}\0", 8, XF_E_FORMAT, "control byte");
  bad("{\"a\0b\":1}", 9, XF_E_FORMAT, "control byte");
  bad_string("{\"a\":\"\xFF\"}", "UTF-8");
  bad_string("{\"a\":\"\xC0\x80\"}", "UTF-8");
  bad_string("{\"a\":\"\xED\xA0\x80\"}", "UTF-8");
  bad_string("{\"a\":\"\xF4\x90\x80\x80\"}", "UTF-8");
  bad_string("{\"a\":\"\xE2\x82", "UTF-8");
  bad_string("{\"hidden_size\\u0000\":1}", "U+0000");
  bad_string("{\"\\uZZZZ\":1}", "escape");
  bad_string("{\"\\u12", "escape");
  bad_string("{\"\\", "escape");
  bad_string("{\"\\x\":1}", "malformed");
  bad_string("{\"\\ud800\":1}", "malformed");
}

static void test_duplicates(void **state)
{
  (void)state;
  bad_string("{\"a\":1,\"a\":1}", "\"a\" twice");
  bad_string("{\"a\":1,\"b\":[{\"x\":1,\"y\":2,\"x\":3}]}", "\"x\" twice");
  bad_string("{\"x\":1,\"\\u0078\":2}", "\"x\" twice");
}

static void test_size(void **state)
{
  (void)state;
  enum { DEPTH = 200000 };
  char *text = malloc(DEPTH);
  memset(text, '[', DEPTH);
  memcpy(text, "{\"a\":", 5);
  bad(text, DEPTH, XF_E_FORMAT, "malformed");
  free(text);
  size_t huge = ((size_t)64 << 20) + 1;
  text = malloc(huge);
  memset(text, ' ', huge);
  bad(text, huge, XF_E_UNSUPPORTED, "67108864");
  for (size_t i = 0; i < huge / 4; i++) text[i] = "1,"[i % 2];
  memcpy(text, "{\"a\":[", 6);
  bad(text, huge / 4, XF_E_UNSUPPORTED, "more than 4194304 values");
  free(text);
}

static void test_good(void **state)
{
  (void)state;
  static const char *const texts[] = {"{}", "\r\n\t {\"a\" : [1, 2.5e-3, true, null, {}]} \n",
                                      "{\"\\\\u0000\":\"\\\"\\u00e4\\ud83d\\ude00\xE2\x82\xAC\"}",
                                      "{\"a\":{\"x\":1},\"b\":{\"x\":1},\"A\":2}"};
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
    cJSON *json = NULL;
    xf_error error = {0};
    if (parse(texts[i], strlen(texts[i]), &json, &error) != XF_OK) fail_msg("%s", error.message);
    assert_true(cJSON_IsObject(json));
    cJSON_Delete(json);
  }
}

static void test_integers(void **state)
{
  (void)state;
  static const char text[] = "{\"good\":[3, 4.0, 0.5e1, 9007199254740992],"
                             "\"bad\":[2, 2.999, -3, 4.5, 9007199254740994, 1e300, -1e300, 1e999, "
                             "\"4\", true, null, [], {}]}";
  const size_t high = (size_t)1 << 53, want[] = {3, 4, 5, high};
  cJSON *json;
  const cJSON *item;
  size_t i = 0, got;
  assert_int_equal(parse(text, sizeof text - 1, &json, NULL), XF_OK);
  cJSON_ArrayForEach(item, cJSON_GetObjectItem(json, "good"))
  {
    assert_true(xf_json_integer(item, 3, high, &got));
    assert_true(got == want[i++]);
  }
  assert_int_equal(i, 4);
  got = 17;
  cJSON_ArrayForEach(item, cJSON_GetObjectItem(json, "bad"))
  {
    assert_false(xf_json_integer(item, 3, high, &got));
    i++;
  }
  assert_int_equal(i, 17);
  assert_false(xf_json_integer(NULL, 3, high, &got));
  assert_int_equal(got, 17);
  cJSON_Delete(json);
}

static void test_failing_allocations(void **state)
{
  (void)state;
  static const char text[] = "{\"a\":{\"x\":1,\"y\":2},\"b\":{\"x\":1,\"y\":[]}}";
  for (size_t n = 0;; n++) {
    cJSON *json;
    failing_alloc_after(n);
    xf_status status = xf_json_parse("x.json", text, sizeof text - 1, &json, NULL);
    if (failing_alloc_off() == 0) {
      assert_int_equal(status, XF_OK);
      assert_int_equal(n, 4); /* the copy, and the keys of three objects */
      cJSON_Delete(json);
      break;
    }
    assert_int_equal(status, XF_E_MEMORY);
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_malformed),
      cmocka_unit_test(test_characters),
      cmocka_unit_test(test_duplicates),
      cmocka_unit_test(test_size),
      cmocka_unit_test(test_good),
      cmocka_unit_test(test_integers),
      cmocka_unit_test(test_failing_allocations),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
