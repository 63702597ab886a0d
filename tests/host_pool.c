#include "tests/host_pool.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#include "tests/model_support.h"
#include "tests/support.h"

struct host_pool {
  pthread_mutex_t lock;
  pthread_cond_t changed;
  pthread_t *threads;
  size_t n_threads;
  /* The current loop: indices below `next` are taken, `running` of them not finished. */
  xf_task task;
  void *arg;
  size_t n, next, running;
  bool quit;
};

/* Takes indices until there are none; the lock is held before and after. */
static void take_indices(struct host_pool *pool)
{
  while (pool->next < pool->n) {
    size_t index = pool->next++;
    pool->running++;
    pthread_mutex_unlock(&pool->lock);
    pool->task(pool->arg, index);
    pthread_mutex_lock(&pool->lock);
    pool->running--;
    if (pool->running == 0) pthread_cond_broadcast(&pool->changed);
  }
}

static void *worker(void *arg)
{
  struct host_pool *pool = arg;
  pthread_mutex_lock(&pool->lock);
  while (!pool->quit) {
    take_indices(pool);
    pthread_cond_wait(&pool->changed, &pool->lock);
  }
  pthread_mutex_unlock(&pool->lock);
  return NULL;
}

struct host_pool *host_pool_create(size_t threads)
{
  struct host_pool *pool = calloc(1, sizeof *pool);
  assert_non_null(pool);
  pthread_mutex_init(&pool->lock, NULL);
  pthread_cond_init(&pool->changed, NULL);
  pool->n_threads = threads - 1; /* the caller is one */
  pool->threads = calloc(threads, sizeof *pool->threads);
  assert_non_null(pool->threads);
  for (size_t i = 0; i < pool->n_threads; i++)
    assert_int_equal(pthread_create(&pool->threads[i], NULL, worker, pool), 0);
  return pool;
}

void host_pool_destroy(struct host_pool *pool)
{
  if (!pool) return;
  pthread_mutex_lock(&pool->lock);
  pool->quit = true;
  pthread_cond_broadcast(&pool->changed);
  pthread_mutex_unlock(&pool->lock);
  for (size_t i = 0; i < pool->n_threads; i++) pthread_join(pool->threads[i], NULL);
  pthread_cond_destroy(&pool->changed);
  pthread_mutex_destroy(&pool->lock);
  free(pool->threads);
  free(pool);
}

void host_pool_run(void *arg, size_t n, xf_task task, void *task_arg)
{
  struct host_pool *pool = arg;
  pthread_mutex_lock(&pool->lock);
  pool->task = task;
  pool->arg = task_arg;
  pool->n = n;
  pool->next = 0;
  pthread_cond_broadcast(&pool->changed);
  take_indices(pool);
  while (pool->running > 0) pthread_cond_wait(&pool->changed, &pool->lock);
  pool->n = 0;
  pthread_mutex_unlock(&pool->lock);
}

xf_context *open_host_context(const char *isa, uint32_t threads, struct host_pool *pool)
{
  xf_context_options options = {.struct_size = sizeof options,
                                .isa = isa,
                                .threads = threads,
                                .parallel_for = host_pool_run,
                                .pool = pool};
  xf_context *context = NULL;
  xf_error error = {0};
  expect_ok(xf_context_create(&options, &context, &error), &error);
  return context;
}
