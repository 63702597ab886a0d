/* A context: the chosen ISA, the threads, and nothing else. Immutable after creation, so that it
 * may be shared by threads, and two contexts may use two ISAs at the same time. In a forked process
 * an inherited context works, and can be destroyed, but has one thread: make a new one there. */
#ifndef EXACTFLASH_CONTEXT_H
#define EXACTFLASH_CONTEXT_H

#include "exactflash/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* An ISA and threads. */
typedef struct xf_context xf_context;

/* Runs one index of a parallel loop. Indices are independent and may run in any order or at once.
 */
typedef void (*xf_task)(void *arg, size_t index);

/* A host's parallel loop: calls task(arg, i) once for each i in [0, n) and returns when all are
 * done. It may run them one after another. */
typedef void (*xf_parallel_for)(void *pool, size_t n, xf_task task, void *arg);

/* Told by each thread of a parallel loop of the library that it begins (1) and ends (0) its part of
 * it. slot < threads: no two threads of one loop have the same. */
typedef void (*xf_observer)(void *arg, uint32_t slot, int begins);

enum {
  /* Of sequence length in the adaptive policy: fewer than 192 keys, fewer than 768, longer. */
  XF_Q_BLOCK_CLASSES = 3,
  XF_Q_BLOCK_MAX = 4096 /* the most of q_blocks below */
};

/* What a context is made of; zeros: the defaults. */
typedef struct xf_context_options {
  size_t struct_size; /* sizeof(xf_context_options) */
  /* "avx512amx", "avx512vnni", "avx512", "avx2vnni", "avx2", "neoni8mm", "neondot", "neon" or
   * "scalar" (the variants differ in 8-bit products only); NULL: the environment variable XF_ISA,
   * else the best one this CPU has. A name that is unknown (XF_E_ARGUMENT) or that this CPU lacks
   * (XF_E_CPU) is an error. Changes speed, never a bit. */
  const char *isa;
  /* 0: the physical cores this process may use (affinity mask and cgroup quota). */
  uint32_t threads;
  /* NULL: threads of our own, asleep while idle. Else the host's loop, called with
   * n ≤ threads, and pool handed to it untouched. */
  xf_parallel_for parallel_for;
  void *pool;
  /* Not 0: each thread of our own stays on a physical core of its own (the caller's thread, which
   * works too, is left as it is). For machines that nothing else uses. */
  int pin_threads;
  /* Query positions per attention task for each class, at most XF_Q_BLOCK_MAX; 0: 32, 64 and 256. A
   * call's own q_block goes before. Changes speed, never a bit: `exactflash bench --tune` finds the
   * best.
   */
  uint32_t q_blocks[XF_Q_BLOCK_CLASSES];
  xf_observer observer; /* for timelines; NULL: none */
  void *observer_arg;
  /* Not 0: fast mode, for results without the promise of the same bits on every machine. Linear
   * layers with bf16 weights round their input to bf16 (8 bits), where the CPU and the ISA gain by
   * it: AMX-BF16 of "avx512amx", five times as fast, or AVX512-BF16 of "avx512" and its variants
   * (but Intel's), up to twice. Everything else, and all of it where there are none, is as without.
   * docs/numerics.md says what is computed: it does not depend on threads, chunks and batches
   * either. */
  int fast;
} xf_context_options;

/* options may be NULL: all defaults. Fails with XF_E_CPU on an x86 CPU without FMA3, and when the
 * linked SLEEF does not give the bits of this numerics version. */
XF_API xf_status xf_context_create(const xf_context_options *options, xf_context **out,
                                   xf_error *error);
/* NULL is allowed. Models made with the context must be closed before. */
XF_API void xf_context_destroy(xf_context *context);

/* Name of its ISA. */
XF_API const char *xf_context_isa(const xf_context *context);
/* Name of the instructions of fast mode that it uses, "amxbf16" or "avx512bf16"; NULL: none, all
 * results are those of xf_numerics_version(). */
XF_API const char *xf_context_fast(const xf_context *context);
/* Its threads, the caller's included. */
XF_API uint32_t xf_context_threads(const xf_context *context);

/* Walks the ISAs of this build in order of preference: name, or NULL past the end. */
XF_API const char *xf_isa_name(size_t index);
/* 1 where this CPU can run that ISA, else 0 (also past the end). */
XF_API int xf_isa_supported(size_t index);

#ifdef __cplusplus
}
#endif
#endif
