/* Threads of our own. A caller never waits for a thread that has not begun to work for it, so that
 * a thread that the system does not run costs nothing but its help; threads wait for work awake for
 * some microseconds, then sleep. (docs/architecture.md, "Threads", has what was measured.) */
#ifndef XF_POOL_H
#define XF_POOL_H

#include <stdbool.h>

#include "exactflash/context.h"

struct xf_pool;

enum xf_pool_waiting {
  XF_POOL_AWAKE, /* for some microseconds: loops follow each other */
  XF_POOL_SLEEPS /* others work on the same cores between loops */
};

/* threads ≥ 2 counts the caller; pin: each of the others stays on a core of its own. NULL when
 * memory or threads are lacking. */
struct xf_pool *xf_pool_create(size_t threads, bool pin, enum xf_pool_waiting waiting);
/* No loop may be running. NULL is allowed. */
void xf_pool_destroy(struct xf_pool *pool);

/* An xf_parallel_for over the pool. While another thread's loop has the pool, and in a process
 * forked since it was made, the caller runs all of its own loop itself. */
void xf_pool_run(void *pool, size_t n, xf_task task, void *arg);

#endif
