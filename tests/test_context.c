/* Contexts: choosing an ISA, threads and the host's loop; the floating-point environment of tasks.
 */
#include <float.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

#include "dispatch/context.h"
#include "tests/compare.h"
#include "tests/isas.h"

static xf_status create(const char *isa, uint32_t threads, xf_parallel_for parallel_for, void *pool,
                        xf_context **out, xf_error *error)
{
  xf_context_options options = {.struct_size = sizeof options,
                                .isa = isa,
                                .threads = threads,
                                .parallel_for = parallel_for,
                                .pool = pool};
  return xf_context_create(&options, out, error);
}

static xf_context *created(const char *isa, uint32_t threads)
{
  xf_context *context = NULL;
  xf_error error;
  if (create(isa, threads, NULL, NULL, &context, &error)) fail_msg("%s", error.message);
  return context;
}

static void test_default_context(void **state)
{
  (void)state;
  xf_context *context = NULL;
  xf_error error;
  unsetenv("XF_ISA");
  assert_int_equal(xf_context_create(NULL, &context, &error), XF_OK);
  assert_string_equal(xf_context_isa(context), next_isa(NULL)->name);
  assert_true(xf_context_threads(context) >= 1);
  xf_context_destroy(context);
  xf_context_destroy(NULL);
  assert_int_equal(xf_context_create(NULL, NULL, &error), XF_E_ARGUMENT);
}

static void test_forced_isa(void **state)
{
  (void)state;
  size_t supported = 0;
  for (size_t i = 0; xf_isa_name(i); i++) {
    const char *name = xf_isa_name(i);
    xf_context *context = NULL;
    xf_error error = {0};
    xf_status status = create(name, 1, NULL, NULL, &context, &error);
    if (xf_isa_supported(i)) {
      assert_int_equal(status, XF_OK);
      assert_string_equal(xf_context_isa(context), name);
      assert_string_equal(context->kernels->name, name); /* the forced one is the one that runs */
      setenv("XF_ISA", name, 1);
      xf_context *by_variable = created(NULL, 1);
      assert_string_equal(xf_context_isa(by_variable), name);
      xf_context_destroy(by_variable);
      supported++;
    } else {
      assert_int_equal(status, XF_E_CPU);
      assert_null(context);
      assert_non_null(strstr(error.message, name));
    }
    xf_context_destroy(context);
  }
  unsetenv("XF_ISA");
  for (const struct xf_kernels *k = NULL; (k = next_quant_isa(k));) supported--;
  assert_int_equal(supported, 0);
  assert_int_equal(xf_isa_supported(1000), 0);
  assert_null(xf_isa_name(1000));
}

static void test_unknown_isa(void **state)
{
  (void)state;
  static const char *const names[] = {"", "sse9", "AVX2", "avx512 ", "avx"};
  xf_context *context = NULL;
  xf_error error;
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    memset(&error, 0, sizeof error);
    assert_int_equal(create(names[i], 1, NULL, NULL, &context, &error), XF_E_ARGUMENT);
    assert_int_equal(error.status, XF_E_ARGUMENT);
    assert_null(context);
    assert_non_null(strstr(error.message, names[i]));
    assert_non_null(strstr(error.message, "scalar")); /* the remedy: names that exist */
    assert_int_equal(create(names[i], 1, NULL, NULL, &context, NULL), XF_E_ARGUMENT);
  }
  setenv("XF_ISA", "sse9", 1);
  assert_int_equal(create(NULL, 1, NULL, NULL, &context, &error), XF_E_ARGUMENT);
  assert_non_null(strstr(error.message, "XF_ISA"));
  assert_int_equal(create("scalar", 1, NULL, NULL, &context, &error), XF_OK); /* an option wins */
  xf_context_destroy(context);
  unsetenv("XF_ISA");
}

static void test_bad_options(void **state)
{
  (void)state;
  xf_context *context = NULL;
  xf_error error = {0};
  xf_context_options options = {.struct_size = 0, .threads = 1};
  assert_int_equal(xf_context_create(&options, &context, &error), XF_E_ARGUMENT);
  assert_non_null(strstr(error.message, "struct_size"));
  options.struct_size = sizeof options + 8;
  assert_int_equal(xf_context_create(&options, &context, &error), XF_E_ARGUMENT);
  assert_int_equal(create(NULL, 2000000000, NULL, NULL, &context, &error), XF_E_ARGUMENT);
  assert_non_null(strstr(error.message, "threads"));
}

/* ---- the parallel loop ---- */

enum { ITEMS = 1000, MOST_SLOTS = 16 };

struct census {
  _Atomic int taken[ITEMS], busy[MOST_SLOTS], shared_slots, bad_slots;
  uint32_t threads;
};

static void count_item(void *arg, size_t slot, size_t item)
{
  struct census *census = arg;
  if (slot >= census->threads) {
    census->bad_slots++;
    return;
  }
  if (atomic_fetch_add(&census->busy[slot], 1) != 0) census->shared_slots++;
  census->taken[item]++;
  atomic_fetch_sub(&census->busy[slot], 1);
}

static void check_census(const xf_context *context)
{
  static const size_t counts[] = {0, 1, 2, 7, ITEMS};
  for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
    struct census census;
    memset(&census, 0, sizeof census);
    census.threads = xf_context_threads(context);
    xf_parallel(context, counts[i], count_item, &census);
    assert_int_equal(census.bad_slots, 0);
    assert_int_equal(census.shared_slots, 0);
    for (size_t item = 0; item < ITEMS; item++)
      assert_int_equal(census.taken[item], item < counts[i]);
  }
}

static void test_every_item_once(void **state)
{
  (void)state;
  static const uint32_t threads[] = {1, 2, 5, 16};
  for (size_t i = 0; i < 4; i++) {
    xf_context *context = created("scalar", threads[i]);
    assert_int_equal(xf_context_threads(context), threads[i]);
    for (int repeat = 0; repeat < 3; repeat++) check_census(context);
    xf_context_destroy(context);
  }
}

/* A host's loops: one after another, and in reverse. */
struct host {
  int backwards;
  size_t calls, most;
};

static void host_loop(void *pool, size_t n, xf_task task, void *arg)
{
  struct host *host = pool;
  host->calls++;
  host->most = n > host->most ? n : host->most;
  for (size_t i = 0; i < n; i++) task(arg, host->backwards ? n - 1 - i : i);
}

static void test_host_loop(void **state)
{
  (void)state;
  for (int backwards = 0; backwards < 2; backwards++) {
    struct host host = {.backwards = backwards};
    xf_context *context;
    xf_error error;
    assert_int_equal(create("scalar", 4, host_loop, &host, &context, &error), XF_OK);
    check_census(context);
    assert_true(host.calls > 0);
    assert_int_equal(host.most, 4);
    xf_context_destroy(context);
  }
}

struct user {
  const struct xf_kernels *kernels;
  const float *want;
  int wrong;
};

enum { N = 1000 };

static void silu_item(void *arg, size_t slot, size_t item)
{
  static const float gate[1] = {0.5f};
  const struct user *user = arg;
  float y, up = (float)item;
  (void)slot;
  user->kernels->silu_mul(1, gate, &up, &y);
  if (memcmp(&y, &user->want[item], sizeof y) != 0) abort();
}

static void *use_context(void *arg)
{
  struct user *user = arg;
  xf_context *context;
  xf_context_options options = {
      .struct_size = sizeof options, .isa = user->kernels->name, .threads = 3};
  if (xf_context_create(&options, &context, NULL) != XF_OK) abort();
  for (int repeat = 0; repeat < 10; repeat++) {
    if (context->kernels != user->kernels) user->wrong = 1;
    xf_parallel(context, N, silu_item, user);
  }
  xf_context_destroy(context);
  return NULL;
}

static void test_q_blocks(void **state)
{
  (void)state;
  xf_context *context;
  xf_error error;
  xf_context_options options = {.struct_size = sizeof options, .threads = 1};
  for (size_t i = 0; i < XF_Q_BLOCK_CLASSES; i++) {
    options.q_blocks[i] = 4096;
    assert_int_equal(xf_context_create(&options, &context, &error), XF_OK);
    assert_memory_equal(context->q_blocks, options.q_blocks, sizeof options.q_blocks);
    xf_context_destroy(context);
    options.q_blocks[i] = 4097;
    assert_int_equal(xf_context_create(&options, &context, &error), XF_E_ARGUMENT);
    assert_non_null(strstr(error.message, "q_blocks"));
    options.q_blocks[i] = 0;
  }
}

/* Two ISAs at once, in two threads of one process. */
static void test_two_contexts_at_once(void **state)
{
  (void)state;
  static float want[N], gate[N], up[N];
  for (size_t i = 0; i < N; i++) gate[i] = 0.5f, up[i] = (float)i;
  xf_kernels_scalar.silu_mul(N, gate, up, want);
  struct user users[2] = {{next_isa(NULL), want, 0}, {&xf_kernels_scalar, want, 0}};
  pthread_t threads[2];
  for (int i = 0; i < 2; i++)
    assert_int_equal(pthread_create(&threads[i], NULL, use_context, &users[i]), 0);
  for (int i = 0; i < 2; i++) assert_int_equal(pthread_join(threads[i], NULL), 0);
  assert_int_equal(users[0].wrong | users[1].wrong, 0);
}

/* ---- the floating-point environment ---- */

/* The control register of vector arithmetic, and its value for rounding upward and flushing
 * subnormal operands and results to zero. */
#if defined(__x86_64__)
typedef unsigned fp_control;
static const fp_control disturbed = 0x1F80 | 0x4000 | 0x8000 | 0x0040;

static fp_control get_control(void)
{
  return _mm_getcsr() & ~0x3Fu; /* without the flags of past exceptions */
}

static void set_control(fp_control control)
{
  _mm_setcsr(control);
}
#else
typedef uint64_t fp_control;
static const fp_control disturbed = 1u << 22 | 1u << 24;

static fp_control get_control(void)
{
  fp_control control;
  __asm__ volatile("mrs %0, fpcr" : "=r"(control) : : "memory");
  return control;
}

static void set_control(fp_control control)
{
  __asm__ volatile("msr fpcr, %0" : : "r"(control) : "memory");
}
#endif

static int is_undisturbed(void)
{
  volatile float least = FLT_MIN, half = 0.5f, subnormal = FLT_TRUE_MIN, one = 1, tiny = 0x1p-30f;
  volatile float product = least * half, same = subnormal * one, sum = one + tiny;
  volatile float difference = -one - tiny;
  return product != 0 && same != 0 && sum == 1 && difference == -1;
}

static void look_at_environment(void *arg, size_t slot, size_t item)
{
  _Atomic int *wrong = arg;
  (void)slot, (void)item;
  if (!is_undisturbed()) (*wrong)++;
}

/* A task that leaves its thread disturbed. */
static void disturb(void *arg, size_t slot, size_t item)
{
  (void)arg, (void)slot, (void)item;
  set_control(disturbed);
}

static void check_environment(const xf_context *context)
{
  _Atomic int wrong = 0;
  fp_control before = get_control();
  xf_parallel(context, 64, disturb, NULL); /* no thread may keep it */
  assert_true(is_undisturbed());
  set_control(disturbed);
  int effective = !is_undisturbed();
  for (int repeat = 0; repeat < 10; repeat++) xf_parallel(context, 64, look_at_environment, &wrong);
  fp_control after = get_control();
  set_control(before);
  assert_true(effective);
  assert_int_equal(wrong, 0);
  assert_true(after == disturbed); /* the caller's, given back */
}

static void test_environment(void **state)
{
  (void)state;
  for (uint32_t threads = 1; threads <= 5; threads += 2) {
    xf_context *context = created("scalar", threads);
    check_environment(context);
    xf_context_destroy(context);
  }
  struct host host = {0};
  xf_context *context;
  assert_int_equal(create("scalar", 3, host_loop, &host, &context, NULL), XF_OK);
  check_environment(context);
  xf_context_destroy(context);
}

/* SLEEF's bits are checked under numerics 1's environment, not under the caller's. */
static void test_created_in_any_environment(void **state)
{
  (void)state;
  xf_context *context = NULL;
  xf_error error = {0};
  fp_control before = get_control();
  set_control(disturbed);
  xf_status status = create(NULL, 2, NULL, NULL, &context, &error);
  set_control(before);
  if (status) fail_msg("%s", error.message);
  xf_context_destroy(context);
}

static double seconds_of(clockid_t clock)
{
  struct timespec now;
  clock_gettime(clock, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* Threads sleep while there is nothing to do: after a moment to settle the process uses no time. */
static void test_idle_threads_sleep(void **state)
{
  (void)state;
  const struct timespec settle = {.tv_nsec = 200000000}, idle = {.tv_nsec = 300000000};
  xf_context *context = created("scalar", 4);
  check_census(context);
  nanosleep(&settle, NULL);
  double before = seconds_of(CLOCK_PROCESS_CPUTIME_ID);
  nanosleep(&idle, NULL);
  double used = seconds_of(CLOCK_PROCESS_CPUTIME_ID) - before;
  xf_context_destroy(context);
  if (used > 0.02) fail_msg("idle threads used %.3f s of 0.3 s", used);
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_default_context),
                                     cmocka_unit_test(test_forced_isa),
                                     cmocka_unit_test(test_unknown_isa),
                                     cmocka_unit_test(test_bad_options),
                                     cmocka_unit_test(test_every_item_once),
                                     cmocka_unit_test(test_host_loop),
                                     cmocka_unit_test(test_two_contexts_at_once),
                                     cmocka_unit_test(test_environment),
                                     cmocka_unit_test(test_created_in_any_environment),
                                     cmocka_unit_test(test_idle_threads_sleep),
                                     cmocka_unit_test(test_q_blocks),
                                     cmocka_unit_test(test_required_isas)};
  return cmocka_run_group_tests_name("context", tests, NULL, NULL);
}
