#include "bench/peaks.h"

#include <dirent.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "bench/arena.h"
#include "dispatch/context.h"

enum {
  NOP_LOOPS = 1000,
  NOPS_A_LOOP = 64,
  PEAK_STEPS = 4000,
  PEAK_WARM_STEPS = 400, /* wide units of some CPUs start slowly */
  READ_BYTES = 16 << 20,
  READ_TASK_BYTES = 1 << 20,
  THREADS_MAX = 1024
};

double clock_seconds(void)
{
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- nops ---- */

static _Atomic double best_rate;

static void note_rate(double rate)
{
  double best = atomic_load(&best_rate);
  while (rate > best && !atomic_compare_exchange_weak(&best_rate, &best, rate)) continue;
}

static void count_nops(void *arg, size_t slot, size_t item)
{
  (void)slot;
  double *rates = arg;
  double start = clock_seconds();
  for (int i = 0; i < NOP_LOOPS; i++) __asm__ volatile(".rept 64\n nop\n .endr");
  rates[item] = NOP_LOOPS * NOPS_A_LOOP / (clock_seconds() - start);
  note_rate(rates[item]);
}

double nop_rate(const xf_context *context)
{
  double rates[THREADS_MAX];
  xf_parallel(context, context->threads, count_nops, rates);
  double least = rates[0];
  for (size_t i = 1; i < context->threads; i++) least = rates[i] < least ? rates[i] : least;
  return least;
}

double best_nop_rate(void)
{
  return atomic_load(&best_rate);
}

/* ---- FMAs and products of narrow numbers ---- */

/* Of one ISA or variant; the last is of all others. */
struct peak {
  const char *isa;
  const struct peak_loop *fma, *dot, *fast;
};

static const struct peak peaks[] = {
#if defined(__x86_64__)
    {"avx512amx", &fma_loop_avx512, &dot_loop_avx512amx, &bf16_loop_avx512amx},
    {"avx512vnni", &fma_loop_avx512, &dot_loop_avx512vnni, &bf16_loop_avx512},
    {"avx512", &fma_loop_avx512, &dot_loop_avx512, &bf16_loop_avx512},
    {"avx2vnni", &fma_loop_avx2, &dot_loop_avx2vnni, NULL},
    {"avx2", &fma_loop_avx2, &dot_loop_avx2, NULL},
#else
    {"neoni8mm", &fma_loop_128, &dot_loop_neoni8mm, NULL},
    {"neondot", &fma_loop_128, &dot_loop_neondot, NULL},
#endif
    {"", &fma_loop_128, &dot_loop_128, NULL},
};

static const struct peak *peak_of(const xf_context *context)
{
  const struct peak *peak = peaks;
  while (*peak->isa && strcmp(peak->isa, xf_context_isa(context)) != 0) peak++;
  return peak;
}

struct peak_work {
  const struct peak_loop *loop;
  double rates[THREADS_MAX];
};

static void count_ops(void *arg, size_t slot, size_t item)
{
  (void)slot;
  struct peak_work *work = arg;
  volatile float sink = work->loop->run(PEAK_WARM_STEPS);
  double start = clock_seconds();
  sink = work->loop->run(PEAK_STEPS);
  (void)sink;
  work->rates[item] = (double)(work->loop->ops * PEAK_STEPS) / (clock_seconds() - start);
}

static double peak_rate(const xf_context *context, const struct peak_loop *loop)
{
  struct peak_work work = {.loop = loop};
  xf_parallel(context, context->threads, count_ops, &work);
  double sum = 0;
  for (size_t i = 0; i < context->threads; i++) sum += work.rates[i];
  return sum;
}

double fma_rate(const xf_context *context)
{
  return peak_rate(context, peak_of(context)->fma);
}

double dot_rate(const xf_context *context)
{
  const struct peak *peak = peak_of(context);
  return peak_rate(context, xf_context_fast(context) ? peak->fast : peak->dot);
}

/* ---- reads ---- */

typedef float vec __attribute__((vector_size(16)));

struct read_work {
  const char *data;
  size_t streams;
};

static void sum_up(void *arg, size_t slot, size_t item)
{
  (void)slot;
  const struct read_work *work = arg;
  const vec *p = (const vec *)(work->data + item * READ_TASK_BYTES);
  vec sum[8] = {{0}};
  const size_t stream = READ_TASK_BYTES / sizeof(vec) / work->streams;
  for (size_t i = 0; i < stream; i += 8) {
    for (size_t s = 0; s < work->streams; s++)
      for (size_t j = 0; j < 8; j++) sum[j] += p[s * stream + i + j];
  }
  for (size_t j = 1; j < 8; j++) sum[0] += sum[j];
  volatile float sink = sum[0][0] + sum[0][1] + sum[0][2] + sum[0][3];
  (void)sink;
}

/* Some CPUs are fastest with one stream a thread, some with several. */
double read_rate(const xf_context *context)
{
  static const size_t streams[] = {1, 4}; /* two reads: see empty_caches */
  double best = 0;
  for (size_t i = 0; i < sizeof streams / sizeof *streams; i++) {
    struct read_work work = {arena_next(READ_BYTES), streams[i]};
    double start = clock_seconds();
    xf_parallel(context, READ_BYTES / READ_TASK_BYTES, sum_up, &work);
    double rate = READ_BYTES / (clock_seconds() - start);
    best = rate > best ? rate : best;
  }
  return best;
}

void empty_caches(const xf_context *context)
{
  for (size_t read = 0; read < arena_bytes(); read += 2 * (size_t)READ_BYTES) read_rate(context);
}

/* ---- waiting for a CPU ---- */

static double thread_waited(const char *id)
{
  char path[300];
  snprintf(path, sizeof path, "/proc/self/task/%s/schedstat", id);
  FILE *file = fopen(path, "r");
  if (!file) return 0;
  unsigned long long ran = 0, waited = 0;
  if (fscanf(file, "%llu %llu", &ran, &waited) != 2) waited = 0;
  fclose(file);
  return 1e-9 * (double)waited;
}

double seconds_waited(void)
{
  DIR *tasks = opendir("/proc/self/task");
  if (!tasks) return 0;
  double sum = 0;
  for (struct dirent *entry; (entry = readdir(tasks));)
    if (entry->d_name[0] != '.') sum += thread_waited(entry->d_name);
  closedir(tasks);
  return sum;
}
