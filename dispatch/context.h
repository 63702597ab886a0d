/* Inside of xf_context, and its parallel loop. */
#ifndef XF_DISPATCH_CONTEXT_H
#define XF_DISPATCH_CONTEXT_H

#include "exactflash/context.h"
#include "kernels/kernels.h"

struct xf_context {
  const struct xf_kernels *kernels;
  const struct xf_fast_kernels *fast; /* NULL: not asked for, or this CPU has none */
  bool far_cache;                     /* xf_isa_far_cache */
  uint32_t threads;
  xf_parallel_for parallel_for;
  void *pool;
  struct xf_pool *own_pool;              /* NULL: the host's loop, or one thread */
  uint32_t q_blocks[XF_Q_BLOCK_CLASSES]; /* 0: the policy's */
  xf_observer observer;                  /* NULL: none */
  void *observer_arg;
};

/* The floating-point environment of numerics 1 (round to nearest, no FTZ or DAZ) for what is
 * computed outside of xf_parallel; the caller's is put back by leave. */
typedef uint64_t xf_fp_state;
xf_fp_state xf_fp_enter(void);
void xf_fp_leave(xf_fp_state state);

/* slot < the context's threads: no two running calls share a slot, so that scratch memory may be
 * indexed by it. */
typedef void (*xf_work)(void *arg, size_t slot, size_t item);

/* Calls work(arg, slot, item) for every item < items, each thread taking the next item when it is
 * free, under round-to-nearest without FTZ/DAZ; the caller's floating-point environment is
 * restored. */
void xf_parallel(const xf_context *context, size_t items, xf_work work, void *arg);

#endif
