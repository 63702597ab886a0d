/* How many threads to use by default. */
#ifndef XF_THREADS_H
#define XF_THREADS_H

#include <stdint.h>

/* The physical cores that the process may use: affinity mask, then the cgroup's CPU quota. ≥ 1. */
uint32_t xf_default_threads(void);

#endif
