/* The thread pool: every index once, callers at the same time, threads that come late, pinning. */
#include "dispatch/pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "dispatch/threads.h"
#include "tests/support.h"

enum { INDICES = 64 };

struct count {
  _Atomic unsigned calls[INDICES];
  _Atomic unsigned threads; /* that have run an index */
  _Atomic bool slow;        /* each index takes a millisecond */
};

static _Thread_local const struct count *seen_by_this_thread;

static void count_index(void *arg, size_t index)
{
  struct count *count = arg;
  const struct timespec millisecond = {.tv_nsec = 1000000};
  count->calls[index]++;
  if (seen_by_this_thread != count) count->threads++;
  seen_by_this_thread = count;
  if (count->slow) nanosleep(&millisecond, NULL);
}

static void expect_calls(const struct count *count, size_t n, unsigned calls)
{
  for (size_t i = 0; i < INDICES; i++) assert_int_equal(count->calls[i], i < n ? calls : 0);
}

static void test_every_index_once(void **state)
{
  (void)state;
  for (size_t threads = 2; threads <= 6; threads += 2) {
    struct xf_pool *pool = xf_pool_create(threads, false, XF_POOL_AWAKE);
    assert_non_null(pool);
    for (size_t n = 0; n <= INDICES; n++) {
      struct count count = {0};
      for (unsigned i = 1; i <= 20; i++) {
        xf_pool_run(pool, n, count_index, &count);
        expect_calls(&count, n, i);
      }
    }
    xf_pool_destroy(pool);
  }
}

static void check_threads_help(enum xf_pool_waiting waiting)
{
  struct xf_pool *pool = xf_pool_create(3, false, waiting);
  struct count count = {.slow = true};
  xf_pool_run(pool, INDICES, count_index, &count);
  expect_calls(&count, INDICES, 1);
  assert_in_range(count.threads, 2, 3); /* a busy machine may not start all in time */
  xf_pool_destroy(pool);
}

static void test_threads_help(void **state)
{
  (void)state;
  check_threads_help(XF_POOL_AWAKE);
  check_threads_help(XF_POOL_SLEEPS);
}

/* Loops begun while threads sleep, and while they wait awake. */
static void check_loops_after_pauses(enum xf_pool_waiting waiting)
{
  struct xf_pool *pool = xf_pool_create(4, false, waiting);
  struct count count = {0};
  for (unsigned i = 1; i <= 200; i++) {
    const struct timespec pause = {.tv_nsec = (long)(i % 5) * 60000};
    nanosleep(&pause, NULL);
    xf_pool_run(pool, INDICES, count_index, &count);
    expect_calls(&count, INDICES, i);
  }
  xf_pool_destroy(pool);
}

static void test_loops_after_pauses(void **state)
{
  (void)state;
  check_loops_after_pauses(XF_POOL_AWAKE);
  check_loops_after_pauses(XF_POOL_SLEEPS);
}

static void *run_loops(void *pool)
{
  struct count count = {0};
  for (unsigned i = 1; i <= 500; i++) {
    xf_pool_run(pool, INDICES, count_index, &count);
    expect_calls(&count, INDICES, i);
  }
  return NULL;
}

static void test_callers_at_once(void **state)
{
  (void)state;
  struct xf_pool *pool = xf_pool_create(3, false, XF_POOL_SLEEPS);
  pthread_t callers[3];
  for (int i = 0; i < 3; i++)
    assert_int_equal(pthread_create(&callers[i], NULL, run_loops, pool), 0);
  for (int i = 0; i < 3; i++) pthread_join(callers[i], NULL);
  xf_pool_destroy(pool);
}

static void test_unused_pools(void **state)
{
  (void)state;
  for (size_t i = 0; i < 50; i++) xf_pool_destroy(xf_pool_create(2 + i % 7, i % 2, XF_POOL_AWAKE));
  xf_pool_destroy(NULL);
}

/* A forked process has none of the workers: the pool goes on with one thread, and can be destroyed,
 * whatever the workers were at. */
static void test_fork(void **state)
{
  (void)state;
  struct xf_pool *pool = xf_pool_create(4, false, XF_POOL_AWAKE);
  struct count count = {0};
  for (unsigned i = 1; i <= 20; i++) {
    xf_pool_run(pool, INDICES, count_index, &count);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
      alarm(60); /* a child that waits for the workers ends, and not well */
      xf_pool_run(pool, INDICES, count_index, &count);
      bool good = true;
      for (int j = 0; j < INDICES; j++) good = good && count.calls[j] == i + 1;
      xf_pool_destroy(pool);
      _exit(!good);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
  }
  expect_calls(&count, INDICES, 20);
  xf_pool_destroy(pool);
}

/* ---- pinning ---- */

struct masks {
  pthread_t caller;
  _Atomic unsigned workers, pinned;
};

static void read_mask(void *arg, size_t index)
{
  (void)index;
  struct masks *masks = arg;
  cpu_set_t mask;
  const struct timespec millisecond = {.tv_nsec = 1000000};
  nanosleep(&millisecond, NULL);
  if (pthread_equal(pthread_self(), masks->caller)) return;
  assert_int_equal(sched_getaffinity(0, sizeof mask, &mask), 0);
  masks->workers++;
  masks->pinned += CPU_COUNT(&mask) == 1;
}

static void test_pinning(void **state)
{
  (void)state;
  cpu_set_t before, after;
  assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
  struct xf_pool *pool = xf_pool_create(3, true, XF_POOL_AWAKE);
  struct masks masks = {.caller = pthread_self()};
  xf_pool_run(pool, INDICES, read_mask, &masks);
  assert_true(masks.workers > 0);
  assert_int_equal(masks.workers, masks.pinned);
  assert_int_equal(sched_getaffinity(0, sizeof after, &after), 0);
  assert_true(CPU_EQUAL(&before, &after));
  xf_pool_destroy(pool);
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_index_once),
                                     cmocka_unit_test(test_threads_help),
                                     cmocka_unit_test(test_loops_after_pauses),
                                     cmocka_unit_test(test_callers_at_once),
                                     cmocka_unit_test(test_unused_pools),
                                     cmocka_unit_test(test_fork),
                                     cmocka_unit_test(test_pinning)};
  return cmocka_run_group_tests_name("pool", tests, NULL, NULL);
}
