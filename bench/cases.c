#include "bench/cases.h"

#include <stdlib.h>

#include "bench/arena.h"
#include "dispatch/memory.h"

/* ---- linear ---- */

struct linear {
  struct bench_case base;
  struct xf_linear weights;
  size_t rows;
  float *x, *y;
  struct xf_linear_scratch scratch;
};

static void linear_run(void *self)
{
  struct linear *c = self;
  c->weights.panels = arena_next(xf_linear_bytes(&c->weights));
  xf_linear_apply(c->base.context, &c->weights, c->rows, c->x, c->weights.k, c->y, c->weights.n,
                  &c->scratch);
}

static void linear_free(void *self)
{
  struct linear *c = self;
  xf_free(c->x), xf_free(c->y), xf_free(c->scratch.floats);
  free(c);
}

struct bench_case *linear_case(const xf_context *context, xf_type type, size_t rows, size_t n,
                               size_t k)
{
  struct linear *c = calloc(1, sizeof *c);
  if (!c) return NULL;
  c->weights = (struct xf_linear){.n = n, .k = k, .parts = {{type, (uint32_t)n}}, .n_parts = 1};
  c->rows = rows;
  struct xf_linear_rows inputs = {xf_linear_has_quants(&c->weights) ? rows : 0,
                                  xf_linear_rounded(context, &c->weights, rows), k};
  c->base = (struct bench_case){.context = context,
                                .flops = 2.0 * (double)rows * (double)n * (double)k,
                                .bytes = (double)xf_linear_bytes(&c->weights),
                                .cold = true,
                                .dots = inputs.quantized || inputs.rounded,
                                .run = linear_run,
                                .free = linear_free};
  c->x = xf_alloc(rows * k, sizeof *c->x);
  c->y = xf_alloc_zeroed(rows * n, sizeof *c->y);
  void *scratch = xf_alloc_zeroed(xf_linear_scratch_bytes(context, inputs), 1);
  if (scratch) c->scratch = xf_linear_scratch_in(scratch, context, inputs);
  if (!c->x || !c->y || !c->scratch.floats) {
    linear_free(c);
    return NULL;
  }
  arena_fill(c->x, rows * k);
  return &c->base;
}

/* ---- elementwise ---- */

static const struct {
  const char *name;
  size_t n;
  double streams; /* arrays read and written */
  double flops;   /* nominal, of an element; an exponential counts as one */
} elementwise[] = {[RMS_NORM] = {"rms_norm", HIDDEN, 2, 4},
                   [ROPE] = {"rope", HIDDEN, 2, 3},
                   [SILU_MUL] = {"silu_mul", INTERMEDIATE, 3, 5}};

const char *elementwise_name(enum elementwise what)
{
  return elementwise[what].name;
}

struct elementwise_rows {
  struct bench_case base;
  enum elementwise what;
  size_t rows, n;
  float *x, *w, *y; /* [rows][n] */
};

static void rows_run(void *self)
{
  struct elementwise_rows *c = self;
  const struct xf_kernels *kernels = c->base.context->kernels;
  for (size_t r = 0; r < c->rows; r++) {
    float *x = c->x + r * c->n, *w = c->w + r * c->n, *y = c->y + r * c->n;
    if (c->what == RMS_NORM)
      kernels->rms_norm(c->n, x, c->w, 1e-5f, y);
    else if (c->what == SILU_MUL)
      kernels->silu_mul(c->n, x, w, y);
    else
      for (size_t i = 0; i < c->n; i += HEAD_DIM)
        kernels->rope(HEAD_DIM / 2, c->w, c->w + HEAD_DIM / 2, y + i);
  }
}

static void rows_free(void *self)
{
  struct elementwise_rows *c = self;
  xf_free(c->x), xf_free(c->w), xf_free(c->y);
  free(c);
}

struct bench_case *elementwise_case(const xf_context *context, enum elementwise what, size_t rows)
{
  struct elementwise_rows *c = calloc(1, sizeof *c);
  if (!c) return NULL;
  c->what = what;
  c->rows = rows;
  c->n = elementwise[what].n;
  double elements = (double)(rows * c->n);
  c->base = (struct bench_case){.context = context,
                                .flops = elementwise[what].flops * elements,
                                .bytes = elementwise[what].streams * sizeof(float) * elements,
                                .run = rows_run,
                                .free = rows_free};
  c->x = xf_alloc(rows * c->n, sizeof *c->x);
  c->w = xf_alloc(rows * c->n, sizeof *c->w);
  c->y = xf_alloc(rows * c->n, sizeof *c->y);
  if (!c->x || !c->w || !c->y) {
    rows_free(c);
    return NULL;
  }
  arena_fill(c->x, rows * c->n);
  arena_fill(c->w, rows * c->n);
  arena_fill(c->y, rows * c->n);
  if (what == ROPE) /* a rotation, so that y stays finite however often it runs */
    for (size_t i = 0; i < HEAD_DIM; i++) c->w[i] = i < HEAD_DIM / 2 ? 0.6f : 0.8f;
  return &c->base;
}
