/* Session files: round trips, every kind of damage, other models, and failures while saving. */
#include "exactflash/exactflash.h"

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/failing_alloc.h"
#include "tests/model_support.h"
#include "tests/support.h"

enum { TOKENS = 19, VOCAB = 20 };

static char *folder, path[4096];
static xf_context *context;
static xf_model *model;
static int32_t tokens[TOKENS];

static xf_session sample(size_t n)
{
  return (xf_session){.struct_size = sizeof(xf_session),
                      .tokens = tokens,
                      .n_tokens = n,
                      .seed = 0xFEDCBA9876543210u,
                      .format = XF_CHAT_CHATML,
                      .cut = 1};
}

static void save(size_t n)
{
  xf_error error = {0};
  xf_session session = sample(n);
  expect_ok(xf_session_save(path, model, &session, &error), &error);
}

static void expect_saved(size_t n)
{
  xf_error error = {0};
  xf_session got = {.struct_size = sizeof got};
  expect_ok(xf_session_load(path, model, &got, &error), &error);
  assert_int_equal(got.n_tokens, n);
  assert_memory_equal(got.tokens, tokens, n * sizeof *tokens);
  assert_true(got.seed == 0xFEDCBA9876543210u && got.format == XF_CHAT_CHATML && got.cut == 1);
  xf_session_free(&got);
  assert_null(got.tokens);
}

/* The file cannot be loaded, and the message names it and holds a word. */
static void expect_refused(const xf_model *by, xf_status want, const char *word)
{
  xf_error error = {0};
  xf_session got = {.struct_size = sizeof got};
  xf_status status = xf_session_load(path, by, &got, &error);
  assert_int_equal(status, want);
  if (!strstr(error.message, path) || !strstr(error.message, word)) fail_msg("%s", error.message);
  assert_true(got.tokens == NULL && got.n_tokens == 0);
}

static void test_round_trip(void **state)
{
  (void)state;
  for (size_t n = 0; n <= TOKENS; n++) {
    save(n); /* in place of the one before */
    expect_saved(n);
  }
}

static void test_damage(void **state)
{
  (void)state;
  size_t bytes;
  save(TOKENS);
  unsigned char *file = read_file(path, &bytes);
  for (size_t n = 0; n < bytes; n++) {
    write_file(path, file, n);
    expect_refused(model, XF_E_FORMAT, n < 8 ? "no session file" : "cut off");
  }
  for (size_t i = 0; i < bytes; i++)
    for (int bit = 0; bit < 8; bit++) {
      file[i] ^= (unsigned char)(1 << bit);
      write_file(path, file, bytes);
      expect_refused(model, XF_E_FORMAT,
                     i < 8    ? "no session file"
                     : i < 12 ? "version"
                              : "damaged");
      file[i] ^= (unsigned char)(1 << bit);
    }
  unsigned char *longer = calloc(1, bytes + 4);
  memcpy(longer, file, bytes);
  write_file(path, longer, bytes + 4);
  expect_refused(model, XF_E_FORMAT, "length");
  free(longer);
  free(file);
  unlink(path);
  expect_refused(model, XF_E_FILE, "No such file");
}

/* A file whose checksum is right, but not what it says. */
static void test_false_contents(void **state)
{
  (void)state;
  static const struct {
    size_t at;
    const char *word;
  } fields[] = {{12, "format"}, {16, "another model"}, {36, "numerics"}, {48, "vocabulary"}};
  for (size_t f = 0; f < sizeof fields / sizeof *fields; f++) {
    size_t bytes;
    save(TOKENS);
    unsigned char *file = read_file(path, &bytes);
    file[fields[f].at] ^= 0x40;
    uint64_t hash = 0xCBF29CE484222325u;
    for (size_t i = 0; i < bytes - 8; i++) hash = (hash ^ file[i]) * 0x100000001B3u;
    memcpy(file + bytes - 8, &hash, 8);
    write_file(path, file, bytes);
    free(file);
    expect_refused(model, XF_E_FORMAT, fields[f].word);
  }
}

static void test_other_models(void **state)
{
  (void)state;
  struct tiny_model others[4];
  for (size_t i = 0; i < 4; i++) others[i] = tiny_model_smallest();
  others[0].layers = 2;
  others[1].seed = 99; /* only the weights differ */
  others[2].extras = "\"rope_theta\": 5000.0";
  others[3].type = XF_BF16;
  save(TOKENS);
  for (size_t i = 0; i < 4; i++) {
    char *other = write_tiny_model(&others[i]);
    xf_model *wrong = open_model(context, other, NULL);
    expect_refused(wrong, XF_E_FORMAT, "another model");
    xf_model_close(wrong);
    free(other);
  }
  expect_saved(TOKENS);
}

/* A session is its tokens: how K and V are kept is the loading model's choice. */
static void test_other_caches(void **state)
{
  (void)state;
  static const xf_type types[] = {XF_F16, XF_BF16, XF_I8};
  xf_model *first = model;
  for (size_t i = 0; i < 3; i++) {
    xf_model_options options = {.struct_size = sizeof options, .cache_type = types[i]};
    save(TOKENS);
    model = open_model(context, folder, &options);
    expect_saved(TOKENS);
    save(3 + i);
    xf_model_close(model);
    model = first;
    expect_saved(3 + i);
  }
}

/* What loading would refuse is not saved. */
static void test_false_sessions(void **state)
{
  (void)state;
  static const int32_t bad[] = {-1, VOCAB, INT32_MIN, INT32_MAX};
  xf_error error = {0};
  save(TOKENS);
  for (size_t i = 0; i < 4; i++) {
    size_t at = i * 6;
    int32_t good = tokens[at];
    xf_session session = sample(TOKENS);
    tokens[at] = bad[i];
    xf_status status = xf_session_save(path, model, &session, &error);
    tokens[at] = good;
    assert_non_null(strstr(error.message, "is not in the vocabulary"));
    expect_status(status, XF_E_ARGUMENT, &error);
  }
  for (unsigned format = 4; format; format *= 8) {
    xf_session session = sample(TOKENS);
    session.format = (xf_chat_format)format;
    expect_status(xf_session_save(path, model, &session, &error), XF_E_ARGUMENT, &error);
  }
  xf_session without = {.struct_size = sizeof without, .n_tokens = 1};
  expect_status(xf_session_save(path, model, &without, &error), XF_E_ARGUMENT, &error);
  expect_saved(TOKENS);
}

/* What cannot be written leaves the old file, and nothing else. */
static void test_failures(void **state)
{
  (void)state;
  xf_session session = sample(3);
  xf_error error = {0};
  save(TOKENS);
  struct rlimit old, limit;
  assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
  limit = old;
  limit.rlim_cur = 20;
  signal(SIGXFSZ, SIG_IGN);
  assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
  xf_status status = xf_session_save(path, model, &session, &error);
  assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
  expect_status(status, XF_E_FILE, &error);
  for (size_t n = 0;; n++) {
    failing_alloc_after(n);
    status = xf_session_save(path, model, &session, &error);
    if (failing_alloc_off() == 0) break;
    assert_int_equal(status, XF_E_MEMORY);
    expect_saved(TOKENS);
  }
  save(TOKENS);
  for (size_t n = 0;; n++) {
    failing_alloc_after(n);
    xf_session got = {.struct_size = sizeof got};
    status = xf_session_load(path, model, &got, &error);
    xf_session_free(&got);
    if (failing_alloc_off() == 0) break;
    assert_int_equal(status, XF_E_MEMORY);
  }
  expect_status(xf_session_save("/no/such/folder/x", model, &session, &error), XF_E_FILE, &error);
  session.struct_size = 1;
  expect_status(xf_session_save(path, model, &session, &error), XF_E_ARGUMENT, &error);
  expect_status(xf_session_load(path, model, &session, &error), XF_E_ARGUMENT, &error);
  expect_status(xf_session_save(path, model, NULL, &error), XF_E_ARGUMENT, &error);
  expect_status(xf_session_load(NULL, model, &session, &error), XF_E_ARGUMENT, &error);
  expect_saved(TOKENS);
}

/* Saving under another name fails and leaves what is there; the message holds a word. */
static void expect_kept(const char *name, const char *word)
{
  struct stat before, after;
  xf_session session = sample(3);
  xf_error error = {0};
  assert_int_equal(lstat(name, &before), 0);
  assert_int_equal(xf_session_save(name, model, &session, &error), XF_E_FILE);
  if (!strstr(error.message, name) || !strstr(error.message, word)) fail_msg("%s", error.message);
  assert_int_equal(lstat(name, &after), 0);
  assert_true(before.st_ino == after.st_ino && before.st_mode == after.st_mode);
}

static void test_links(void **state)
{
  (void)state;
  char link[4096], to_link[4096];
  struct stat status;
  xf_session session = sample(7);
  xf_error error = {0};
  snprintf(link, sizeof link, "%s/link", folder);
  snprintf(to_link, sizeof to_link, "%s/to_link", folder);
  assert_int_equal(symlink("saved", link), 0);
  assert_int_equal(symlink(link, to_link), 0);
  save(TOKENS);
  expect_ok(xf_session_save(to_link, model, &session, &error), &error);
  assert_true(lstat(link, &status) == 0 && S_ISLNK(status.st_mode));
  assert_true(lstat(to_link, &status) == 0 && S_ISLNK(status.st_mode));
  assert_true(lstat(path, &status) == 0 && S_ISREG(status.st_mode));
  expect_saved(7);
  unlink(path);
  expect_kept(link, "No such file");
  unlink(link);
  unlink(to_link);
}

static void test_no_file(void **state)
{
  (void)state;
  char pipe[4096];
  snprintf(pipe, sizeof pipe, "%s/pipe", folder);
  assert_int_equal(mkfifo(pipe, 0600), 0);
  expect_kept(pipe, "not a regular file");
  expect_kept(folder, "not a regular file");
  unlink(pipe);
}

/* Root may write everything, and is somebody else meanwhile. */
static void test_read_only(void **state)
{
  (void)state;
  enum { NOBODY = 65534 };
  bool root = getuid() == 0;
  save(TOKENS);
  assert_int_equal(chmod(path, 0444), 0);
  assert_int_equal(chmod(folder, 0777), 0);
  if (root) assert_int_equal(setresuid(NOBODY, NOBODY, 0), 0);
  bool reachable = access(path, R_OK) == 0; /* for others than root, TMPDIR may not be */
  if (reachable) expect_kept(path, "cannot write");
  if (root) assert_int_equal(setresuid(0, 0, 0), 0);
  expect_saved(TOKENS);
  assert_int_equal(chmod(folder, 0700), 0);
  unlink(path);
  if (!reachable) skip();
}

static int set_up(void **state)
{
  (void)state;
  struct tiny_model tiny = tiny_model_smallest();
  folder = write_tiny_model(&tiny);
  snprintf(path, sizeof path, "%s/saved", folder);
  context = open_context(NULL, 1);
  model = open_model(context, folder, NULL);
  for (int32_t i = 0; i < TOKENS; i++) tokens[i] = (i * 7) % VOCAB;
  return 0;
}

static int tear_down(void **state)
{
  (void)state;
  xf_model_close(model);
  xf_context_destroy(context);
  free(folder);
  return 0;
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_round_trip),     cmocka_unit_test(test_damage),
      cmocka_unit_test(test_false_contents), cmocka_unit_test(test_other_models),
      cmocka_unit_test(test_other_caches),   cmocka_unit_test(test_false_sessions),
      cmocka_unit_test(test_failures),       cmocka_unit_test(test_links),
      cmocka_unit_test(test_no_file),        cmocka_unit_test(test_read_only)};
  return cmocka_run_group_tests_name("session", tests, set_up, tear_down);
}
