/* A host's own threads, as a caller of the library may bring them: asleep while they wait. */
#ifndef XF_TESTS_HOST_POOL_H
#define XF_TESTS_HOST_POOL_H

#include "exactflash/context.h"

struct host_pool;

struct host_pool *host_pool_create(size_t threads);
void host_pool_destroy(struct host_pool *pool); /* NULL is allowed */
/* An xf_parallel_for; one call at a time. */
void host_pool_run(void *pool, size_t n, xf_task task, void *arg);

/* A context on `threads` threads of a host's pool, which has that many. */
xf_context *open_host_context(const char *isa, uint32_t threads, struct host_pool *pool);

#endif
