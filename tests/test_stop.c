/* Stop strings against their definition, over random splits of random texts. */
#include "model/stop.h"

#include <stdlib.h>
#include <string.h>

#include "tests/failing_alloc.h"
#include "tests/support.h"

enum { MOST = 60, STRINGS = 4 };

/* Bytes of text in front of the first stop string to be complete; all of it without one. */
static size_t reference(const char *text, size_t n, const char *const *strings, size_t count,
                        bool *matched)
{
  for (size_t end = 1; end <= n; end++) {
    size_t longest = 0;
    for (size_t i = 0; i < count; i++) {
      size_t bytes = strlen(strings[i]);
      if (bytes <= end && bytes > longest && memcmp(text + end - bytes, strings[i], bytes) == 0)
        longest = bytes;
    }
    *matched = longest > 0;
    if (longest) return end - longest;
  }
  *matched = false;
  return n;
}

/* Whether the last bytes of text may be the beginning of a stop string. */
static bool may_begin(const char *text, size_t n, size_t bytes, const char *const *strings,
                      size_t count)
{
  for (size_t i = 0; i < count; i++)
    if (strlen(strings[i]) > bytes && memcmp(strings[i], text + n - bytes, bytes) == 0) return true;
  return false;
}

/* Feeds random pieces; what comes out must be the reference's, and nothing late. */
static void check(struct rng *rng, struct xf_stop *stop, const char *text, size_t n,
                  const char *const *strings, size_t count)
{
  char out[MOST + 1];
  size_t got = 0, i = 0;
  bool matched;
  size_t wanted = reference(text, n, strings, count, &matched);
  while (i < n || !i) {
    size_t piece = i + rng_below(rng, n - i + 1), bytes;
    const char *utf8;
    xf_stop_push(stop, text + i, piece - i, false, &utf8, &bytes);
    i = piece;
    memcpy(out + got, utf8, bytes);
    assert_true(utf8[bytes] == '\0');
    got += bytes;
    assert_true(got <= i);
    if (!stop->matched && got < i) assert_true(may_begin(text, i, i - got, strings, count));
    if (i == n) break;
  }
  const char *utf8;
  size_t bytes;
  xf_stop_push(stop, "", 0, true, &utf8, &bytes);
  memcpy(out + got, utf8, bytes);
  got += bytes;
  assert_true(stop->matched == matched);
  assert_int_equal(got, wanted);
  assert_memory_equal(out, text, got);
}

static void test_splits(void **state)
{
  (void)state;
  struct rng rng = {5};
  int matches = 0;
  for (int round = 0; round < 5000; round++) {
    char text[MOST + 1], words[STRINGS][8];
    const char *strings[STRINGS];
    size_t count = rng_below(&rng, STRINGS + 1), n = rng_below(&rng, MOST), letters = 2;
    letters += rng_below(&rng, 3);
    for (size_t i = 0; i < n; i++) text[i] = "abc\0e"[rng_below(&rng, letters + 1)];
    for (size_t i = 0; i < count; i++) {
      size_t bytes = 1 + rng_below(&rng, 7);
      for (size_t j = 0; j < bytes; j++) words[i][j] = "abcde"[rng_below(&rng, letters)];
      words[i][bytes] = '\0';
      strings[i] = words[i];
    }
    struct xf_stop stop;
    assert_int_equal(xf_stop_init(&stop, strings, count, MOST, NULL), XF_OK);
    for (int again = 0; again < 4; again++) {
      xf_stop_reset(&stop);
      check(&rng, &stop, text, n, strings, count);
      matches += stop.matched;
    }
    xf_stop_free(&stop);
  }
  assert_true(matches > 4000 && matches < 19000);
}

static void test_arguments(void **state)
{
  (void)state;
  static const char *const bad[] = {"", NULL, "a\xFF", "\x80"};
  struct xf_stop stop;
  xf_error error = {0};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    const char *strings[] = {"good", bad[i]};
    assert_int_equal(xf_stop_init(&stop, strings, 2, 10, &error), XF_E_ARGUMENT);
    assert_non_null(strstr(error.message, "string 1"));
  }
  assert_int_equal(xf_stop_init(&stop, NULL, 2, 10, &error), XF_E_ARGUMENT);
  for (size_t n = 0;; n++) {
    static const char *const one[] = {"x"};
    failing_alloc_after(n);
    xf_status status = xf_stop_init(&stop, one, 1, 10, &error);
    xf_stop_free(&stop);
    if (failing_alloc_off() == 0) break;
    assert_int_equal(status, XF_E_MEMORY);
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_splits),
                                     cmocka_unit_test(test_arguments)};
  return cmocka_run_group_tests_name("stop", tests, NULL, NULL);
}
