#include "dispatch/pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include "dispatch/memory.h"
#include "dispatch/threads.h"

/* How long to wait awake: longer than the pause between two operators of a forward call. */
enum { AWAKE_NANOSECONDS = 100000 };

/* A fork copies the caller's thread alone, and the locks as they happen to be. So a pool that was
 * made before a fork is one thread behind it, and its locks are left alone. */
static _Atomic unsigned forks; /* between this process and the first that used the library */
static pthread_once_t forks_counted = PTHREAD_ONCE_INIT;

static void count_fork(void)
{
  forks++;
}

static void begin_to_count_forks(void)
{
  pthread_atfork(NULL, NULL, count_fork);
}

struct xf_pool {
  pthread_mutex_t lock; /* guards what follows */
  pthread_cond_t work;  /* there is a new loop, or the end */
  pthread_cond_t done;  /* no worker is in the loop any more */
  xf_task task;         /* the loop: */
  void *arg;
  size_t n, left;         /* indices; how many of them nobody has taken */
  _Atomic size_t active;  /* workers inside a task */
  _Atomic unsigned loops; /* begun so far: changes when there is something new */
  size_t sleepers;
  size_t started; /* workers that run */
  bool stop;
  bool pin;
  bool awake;            /* wait for work so at first */
  bool crowded;          /* more threads than cores: waiting awake would keep others from working */
  pthread_mutex_t owner; /* held by the caller whose loop it is */
  bool *taken;           /* [threads]: of the indices below that number */
  size_t n_workers;
  pthread_t *workers;
  unsigned born; /* forks when it was made */
};

static int64_t nanoseconds(void)
{
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void relax(void)
{
#if defined(__x86_64__)
  for (int i = 0; i < 8; i++) __builtin_ia32_pause();
#elif defined(__aarch64__)
  for (int i = 0; i < 8; i++) __asm__ volatile("yield");
#endif
}

/* Sleeps until there is work, after waiting for it awake. Called and left with the lock held. */
static void wait_for_work(struct xf_pool *pool)
{
  unsigned seen = pool->loops;
  if (pool->awake) {
    pthread_mutex_unlock(&pool->lock);
    int64_t end = nanoseconds() + AWAKE_NANOSECONDS;
    while (pool->loops == seen && nanoseconds() < end) relax();
    pthread_mutex_lock(&pool->lock);
  }
  pool->sleepers++;
  while (pool->loops == seen) pthread_cond_wait(&pool->work, &pool->lock);
  pool->sleepers--;
}

/* An index that nobody has taken: thread `self` prefers its own number, so that it meets the same
 * part of the data in every loop. */
static size_t take_index(struct xf_pool *pool, size_t self)
{
  size_t threads = pool->n_workers + 1, index = self;
  pool->left--;
  if (pool->n > threads) return pool->left; /* more indices than threads: any order */
  if (self >= pool->n || pool->taken[self])
    for (index = 0; pool->taken[index];) index++;
  pool->taken[index] = true;
  return index;
}

/* Takes indices while there are any. Called and left with the lock held. */
static void take_indices(struct xf_pool *pool, size_t self)
{
  while (pool->left > 0) {
    size_t index = take_index(pool, self);
    pthread_mutex_unlock(&pool->lock);
    pool->task(pool->arg, index);
    pthread_mutex_lock(&pool->lock);
  }
}

static void *worker(void *arg)
{
  struct xf_pool *pool = arg;
  pthread_mutex_lock(&pool->lock);
  size_t self = ++pool->started; /* 0 is the caller, which also has core 0 */
  if (pool->pin) xf_pin_thread(self);
  while (!pool->stop) {
    if (pool->left > 0) {
      pool->active++;
      take_indices(pool, self);
      if (--pool->active == 0) pthread_cond_signal(&pool->done);
    } else {
      wait_for_work(pool);
    }
  }
  pthread_mutex_unlock(&pool->lock);
  return NULL;
}

/* Waits, awake at first, until no worker is in the loop. Called and left with the lock held. */
static void wait_for_workers(struct xf_pool *pool)
{
  if (pool->active > 0 && !pool->crowded) {
    pthread_mutex_unlock(&pool->lock);
    int64_t end = nanoseconds() + AWAKE_NANOSECONDS;
    while (pool->active > 0 && nanoseconds() < end) relax();
    pthread_mutex_lock(&pool->lock);
  }
  while (pool->active > 0) pthread_cond_wait(&pool->done, &pool->lock);
}

void xf_pool_run(void *arg, size_t n, xf_task task, void *task_arg)
{
  struct xf_pool *pool = arg;
  if (pool->born != forks || pthread_mutex_trylock(&pool->owner) != 0) {
    for (size_t i = 0; i < n; i++) task(task_arg, i);
    return;
  }
  pthread_mutex_lock(&pool->lock);
  pool->task = task, pool->arg = task_arg;
  pool->left = pool->n = n;
  memset(pool->taken, 0, (pool->n_workers + 1) * sizeof *pool->taken);
  pool->loops++;
  if (pool->sleepers > 0) pthread_cond_broadcast(&pool->work);
  take_indices(pool, 0);
  wait_for_workers(pool);
  pthread_mutex_unlock(&pool->lock);
  pthread_mutex_unlock(&pool->owner);
}

struct xf_pool *xf_pool_create(size_t threads, bool pin, enum xf_pool_waiting waiting)
{
  struct xf_pool *pool = xf_alloc_zeroed(1, sizeof *pool);
  if (!pool) return NULL;
  pthread_once(&forks_counted, begin_to_count_forks);
  pool->born = forks;
  pthread_mutex_init(&pool->lock, NULL);
  pthread_mutex_init(&pool->owner, NULL);
  pthread_cond_init(&pool->work, NULL);
  pthread_cond_init(&pool->done, NULL);
  pool->pin = pin;
  pool->crowded = threads > xf_default_threads();
  pool->awake = waiting == XF_POOL_AWAKE && !pool->crowded;
  pool->workers = xf_alloc(threads - 1, sizeof *pool->workers);
  pool->taken = xf_alloc_zeroed(threads, sizeof *pool->taken);
  while (pool->workers && pool->taken && pool->n_workers < threads - 1 &&
         pthread_create(&pool->workers[pool->n_workers], NULL, worker, pool) == 0)
    pool->n_workers++;
  if (pool->n_workers == threads - 1) return pool;
  xf_pool_destroy(pool);
  return NULL;
}

static void stop_workers(struct xf_pool *pool)
{
  pthread_mutex_lock(&pool->lock);
  pool->stop = true;
  pool->loops++;
  pthread_cond_broadcast(&pool->work);
  pthread_mutex_unlock(&pool->lock);
  for (size_t i = 0; i < pool->n_workers; i++) pthread_join(pool->workers[i], NULL);
  pthread_cond_destroy(&pool->done);
  pthread_cond_destroy(&pool->work);
  pthread_mutex_destroy(&pool->owner);
  pthread_mutex_destroy(&pool->lock);
}

void xf_pool_destroy(struct xf_pool *pool)
{
  if (!pool) return;
  if (pool->born == forks) stop_workers(pool);
  xf_free(pool->taken);
  xf_free(pool->workers);
  xf_free(pool);
}
