#include "bench/measure.h"

#include <stdlib.h>

#define CLEAN_NOPS   0.9
#define CLEAN_WAITED 0.02

bool sample_is_clean(const struct sample *sample)
{
  return sample->nops >= CLEAN_NOPS * best_nop_rate() && sample->waited <= CLEAN_WAITED;
}

struct sample measure(const xf_context *context, bool with_read, void (*work)(void *arg), void *arg)
{
  struct sample sample = {0};
  if (with_read) sample.read = read_rate(context);
  sample.fma = fma_rate(context);
  sample.dot = dot_rate(context);
  double before = nop_rate(context), waited = seconds_waited();
  double start = clock_seconds();
  work(arg);
  sample.seconds = sample.wall = clock_seconds() - start;
  waited = seconds_waited() - waited;
  /* The wait is known a little earlier and later than the time: of a short run it may be more. */
  if (xf_context_threads(context) == 1 && waited < sample.wall / 2)
    sample.seconds -= waited;
  else
    sample.waited = waited / sample.wall;
  double after = nop_rate(context);
  sample.nops = before < after ? before : after;
  return sample;
}

static int by_seconds(const void *a, const void *b)
{
  const struct sample *x = a, *y = b;
  return (x->seconds > y->seconds) - (x->seconds < y->seconds);
}

static int by_fma(const void *a, const void *b)
{
  const struct sample *x = a, *y = b;
  return (x->fma > y->fma) - (x->fma < y->fma);
}

static int by_dot(const void *a, const void *b)
{
  const struct sample *x = a, *y = b;
  return (x->dot > y->dot) - (x->dot < y->dot);
}

static int by_read(const void *a, const void *b)
{
  const struct sample *x = a, *y = b;
  return (x->read > y->read) - (x->read < y->read);
}

struct summary summarise(struct sample *samples, size_t n)
{
  struct summary summary = {.samples = n};
  for (size_t i = 0; i < n; i++) {
    if (!sample_is_clean(&samples[i])) continue;
    struct sample swapped = samples[summary.clean];
    samples[summary.clean++] = samples[i];
    samples[i] = swapped;
  }
  size_t used = summary.clean ? summary.clean : n;
  if (used == 0) return summary;
  qsort(samples, used, sizeof *samples, by_seconds);
  summary.seconds = samples[used / 2].seconds;
  qsort(samples, used, sizeof *samples, by_fma);
  summary.fma = samples[used / 2].fma;
  qsort(samples, used, sizeof *samples, by_dot);
  summary.dot = samples[used / 2].dot;
  qsort(samples, used, sizeof *samples, by_read);
  summary.read = samples[used / 2].read;
  return summary;
}
