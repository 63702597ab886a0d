#include "dispatch/context.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

#include "dispatch/error.h"
#include "dispatch/isa.h"
#include "dispatch/memory.h"
#include "dispatch/numerics_check.h"
#include "dispatch/options.h"
#include "dispatch/pool.h"
#include "dispatch/threads.h"

enum { THREADS_MAX = 1024 };

static xf_status start_threads(xf_context *context, bool pin, xf_error *error)
{
  context->own_pool = xf_pool_create(context->threads, pin, XF_POOL_AWAKE);
  if (!context->own_pool)
    return xf_fail(error, XF_E_MEMORY, "cannot start %u threads", context->threads);
  context->parallel_for = xf_pool_run;
  context->pool = context->own_pool;
  return XF_OK;
}

xf_status xf_context_create(const xf_context_options *given, xf_context **out, xf_error *error)
{
  if (!out) return xf_fail(error, XF_E_ARGUMENT, "xf_context_create: out is NULL");
  *out = NULL;
  xf_context_options options;
  xf_status status = xf_options_read("xf_context_options", given, &options, sizeof options, error);
  if (status) return status;
  if (options.threads > THREADS_MAX)
    return xf_fail(error, XF_E_ARGUMENT, "xf_context_options: threads %u; at most %d",
                   options.threads, THREADS_MAX);
  for (size_t i = 0; i < XF_Q_BLOCK_CLASSES; i++)
    if (options.q_blocks[i] > XF_Q_BLOCK_MAX)
      return xf_fail(error, XF_E_ARGUMENT, "xf_context_options: q_blocks[%zu] %u; at most %d", i,
                     options.q_blocks[i], XF_Q_BLOCK_MAX);
  const struct xf_kernels *kernels;
  status = xf_isa_choose(options.isa, &kernels, error);
  if (status) return status;
  xf_context *context = xf_alloc_zeroed(1, sizeof *context);
  if (!context) return xf_fail(error, XF_E_MEMORY, "out of memory for a context");
  context->kernels = kernels;
  context->far_cache = xf_isa_far_cache();
  if (options.fast) context->fast = xf_isa_fast(kernels);
  context->threads = options.threads ? options.threads : xf_default_threads();
  context->parallel_for = options.parallel_for;
  context->pool = options.pool;
  context->observer = options.observer;
  context->observer_arg = options.observer_arg;
  memcpy(context->q_blocks, options.q_blocks, sizeof context->q_blocks);
  status = xf_numerics_check(context, error);
  if (!status && !options.parallel_for && context->threads > 1)
    status = start_threads(context, options.pin_threads != 0, error);
  if (status) {
    xf_context_destroy(context);
    return status;
  }
  *out = context;
  return XF_OK;
}

void xf_context_destroy(xf_context *context)
{
  if (!context) return;
  xf_pool_destroy(context->own_pool);
  xf_free(context);
}

const char *xf_context_isa(const xf_context *context)
{
  return context->kernels->name;
}

const char *xf_context_fast(const xf_context *context)
{
  return context->fast ? context->fast->name : NULL;
}

uint32_t xf_context_threads(const xf_context *context)
{
  return context->threads;
}

/* ---- the floating-point environment of numerics 1 ---- */

#if defined(__x86_64__)
xf_fp_state xf_fp_enter(void)
{
  xf_fp_state old = _mm_getcsr();
  _mm_setcsr(0x1F80); /* all exceptions masked, round to nearest, no FTZ, no DAZ */
  return old;
}

void xf_fp_leave(xf_fp_state state)
{
  _mm_setcsr((unsigned)state);
}
#else
void xf_fp_leave(xf_fp_state state)
{
  __asm__ volatile("msr fpcr, %0" : : "r"(state) : "memory");
}

xf_fp_state xf_fp_enter(void)
{
  xf_fp_state old;
  __asm__ volatile("mrs %0, fpcr" : "=r"(old) : : "memory");
  xf_fp_leave(0); /* round to nearest, no flush to zero, no traps */
  return old;
}
#endif

/* ---- the parallel loop ---- */

/* Slot s begins with the s-th share of the items, and then helps with the others': a thread meets
 * the same part of the weights in every loop, which lie near it where it packed them (NUMA). */
enum { SHARES = 64 };

struct share {
  _Alignas(64) _Atomic size_t next;
  size_t end;
};

struct loop {
  const xf_context *context;
  xf_work work;
  void *arg;
  size_t n_shares;
  struct share shares[SHARES];
};

static void run_slot(void *arg, size_t slot)
{
  struct loop *loop = arg;
  const xf_context *context = loop->context;
  if (context->observer) context->observer(context->observer_arg, (uint32_t)slot, 1);
  xf_fp_state old = xf_fp_enter();
  for (size_t i = 0; i < loop->n_shares; i++) {
    struct share *share = &loop->shares[(slot + i) % loop->n_shares];
    for (;;) {
      size_t item = atomic_fetch_add_explicit(&share->next, 1, memory_order_relaxed);
      if (item >= share->end) break;
      loop->work(loop->arg, slot, item);
    }
  }
  xf_fp_leave(old);
  if (context->observer) context->observer(context->observer_arg, (uint32_t)slot, 0);
}

void xf_parallel(const xf_context *context, size_t items, xf_work work, void *arg)
{
  size_t slots = xf_min(context->threads, items);
  struct loop loop; /* not initialised as a whole: it is long, and loops can be short */
  loop.context = context;
  loop.work = work;
  loop.arg = arg;
  loop.n_shares = xf_min(slots, SHARES);
  for (size_t i = 0, begin = 0; i < loop.n_shares; i++) {
    size_t rest = loop.n_shares - i, count = (items - begin + rest - 1) / rest;
    atomic_init(&loop.shares[i].next, begin);
    loop.shares[i].end = begin += count;
  }
  if (slots > 1)
    context->parallel_for(context->pool, slots, run_slot, &loop);
  else if (slots == 1)
    run_slot(&loop, 0);
}
