/* What compare.py loads: our attention, and the peaks that both sides are measured beside. One case
 * at a time. */
#include <stdio.h>
#include <string.h>

#include "bench/arena.h"
#include "bench/attention_case.h"
#include "bench/peaks.h"

#define EXPORT __attribute__((visibility("default")))

EXPORT int compare_open(const char *isa, unsigned threads, size_t q_len, size_t kv_len,
                        const char *type);
EXPORT void compare_close(void);
EXPORT const char *compare_isa(void);
EXPORT void compare_bind(const float *q, float *out);
EXPORT int compare_write(const void *k, const void *v);
EXPORT void compare_run(void);
EXPORT double compare_nops(void);
EXPORT double compare_best_nops(void);
EXPORT double compare_fma(void);
EXPORT void compare_evict(void);
EXPORT double compare_waited(void);

static xf_context *context;
static struct bench_case *attention;

static bool name_type(const char *name, struct attention_shape *shape)
{
  shape->packed = !strcmp(name, "packed");
  for (shape->type = XF_F32; !shape->packed && shape->type <= XF_BF16; shape->type++)
    if (!strcmp(name, xf_type_name(shape->type))) return true;
  return shape->packed;
}

/* isa "": the best. type: "packed", or the type of plain K and V. 0: done; else a message is on
 * stderr. */
int compare_open(const char *isa, unsigned threads, size_t q_len, size_t kv_len, const char *type)
{
  struct attention_shape shape = {.q_len = q_len, .kv_len = kv_len, .head_dim = HEAD_DIM};
  if (!name_type(type, &shape)) {
    fprintf(stderr, "no such cache: %s\n", type);
    return 1;
  }
  xf_error error;
  xf_context_options options = {
      .struct_size = sizeof options, .isa = *isa ? isa : NULL, .threads = threads};
  if (xf_context_create(&options, &context, &error)) {
    fprintf(stderr, "%s\n", error.message);
    return 1;
  }
  if (arena_bytes() == 0 && !arena_open()) {
    fprintf(stderr, "out of memory for the benchmarks' data\n");
    return 1;
  }
  attention = attention_case(context, &shape);
  if (!attention) fprintf(stderr, "out of memory for attention over %zu keys\n", kv_len);
  return attention ? 0 : 1;
}

void compare_close(void)
{
  attention->free(attention);
  xf_context_destroy(context);
}

const char *compare_isa(void)
{
  return xf_context_isa(context);
}

void compare_bind(const float *q, float *out)
{
  attention_case_bind(attention, q, out);
}

int compare_write(const void *k, const void *v)
{
  return attention_case_write(attention, k, v);
}

void compare_run(void)
{
  attention->run(attention);
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
