/* What compare.py loads: our attention, and the peaks that all sides are measured beside. One
 * context at a time. */
#include <stdio.h>
#include <string.h>

#include "bench/arena.h"
#include "bench/attention_case.h"
#include "bench/peaks.h"

#define EXPORT __attribute__((visibility("default")))

EXPORT int compare_open(const char *isa, unsigned threads);
EXPORT void compare_close(void);
EXPORT const char *compare_isa(void);
EXPORT void *compare_case(size_t q_len, size_t kv_len, const char *cache);
EXPORT void compare_case_free(void *attention);
EXPORT void compare_bind(void *attention, const float *q, float *out);
EXPORT int compare_write(void *attention, const void *k, const void *v);
EXPORT void compare_run(void *attention);
EXPORT double compare_nops(void);
EXPORT double compare_best_nops(void);
EXPORT double compare_fma(void);
EXPORT void compare_evict(void);
EXPORT double compare_waited(void);

static xf_context *context;

/* isa "": the best. 0: done; else a message is on stderr. */
int compare_open(const char *isa, unsigned threads)
{
  xf_error error;
  xf_context_options options = {
      .struct_size = sizeof options, .isa = *isa ? isa : NULL, .threads = threads};
  if (xf_context_create(&options, &context, &error)) {
    fprintf(stderr, "%s\n", error.message);
    return 1;
  }
  if (arena_bytes() > 0 || arena_open()) return 0;
  fprintf(stderr, "out of memory for the benchmarks' data\n");
  return 1;
}

void compare_close(void)
{
  xf_context_destroy(context);
}

const char *compare_isa(void)
{
  return xf_context_isa(context);
}

/* cache: "packed", or the type of plain K and V. NULL: no such cache, or out of memory. */
void *compare_case(size_t q_len, size_t kv_len, const char *cache)
{
  static const xf_type types[] = {XF_F32, XF_F16, XF_BF16};
  struct attention_shape shape = {
      .q_len = q_len, .kv_len = kv_len, .head_dim = HEAD_DIM, .type = XF_F32};
  shape.packed = !strcmp(cache, "packed");
  if (shape.packed) return attention_case(context, &shape);
  for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
    shape.type = types[i];
    if (!strcmp(cache, xf_type_name(types[i]))) return attention_case(context, &shape);
  }
  return NULL;
}

void compare_case_free(void *attention)
{
  struct bench_case *c = attention;
  c->free(c);
}

void compare_bind(void *attention, const float *q, float *out)
{
  attention_case_bind(attention, q, out);
}

/* 0: done. */
int compare_write(void *attention, const void *k, const void *v)
{
  return attention_case_write(attention, k, v);
}

void compare_run(void *attention)
{
  struct bench_case *c = attention;
  c->run(c);
}

double compare_nops(void)
{
  return nop_rate(context);
}

double compare_best_nops(void)
{
  return best_nop_rate();
}

double compare_fma(void)
{
  return fma_rate(context);
}

void compare_evict(void)
{
  empty_caches(context);
}

double compare_waited(void)
{
  return seconds_waited();
}
