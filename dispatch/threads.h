/* How many threads to use by default. */
#ifndef XF_THREADS_H
#define XF_THREADS_H

#include <stddef.h>
#include <stdint.h>

/* The physical cores that the process may use: affinity mask, then the cgroup's CPU quota. ≥ 1. */
uint32_t xf_default_threads(void);

/* Keeps the calling thread on the index-th of those cores (modulo their number), counted from 0.
 * Does nothing where the system does not tell or allow it. */
void xf_pin_thread(size_t index);

#endif
