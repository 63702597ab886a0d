#include <stdlib.h>

#include "bench/arena.h"
#include "bench/cases.h"
#include "dispatch/memory.h"
#include "kernels/quant.h"

enum { TASK_PANELS = 12, TASK_COLUMNS = TASK_PANELS * XF_LANES };

struct quant {
  struct bench_case base;
  struct xf_quant_args op; /* w: this run's */
  struct xf_quant_format format;
  float *x;
};

static void quantize_row(void *arg, size_t slot, size_t r)
{
  (void)slot;
  const struct quant *c = arg;
  const size_t k = xf_quant_k(c->op.k), groups = c->format.block ? c->op.k / c->format.block : 1;
  const struct xf_quant_rows *x = &c->op.x;
  struct xf_quant_rows row = {x->q + r * k, x->d + r * groups, x->sums + r * k / XF_LANES};
  c->base.context->kernels->quant->quantize(c->op.k, c->format.block, c->x + r * c->op.k, row);
}

static void multiply(void *arg, size_t slot, size_t item)
{
  (void)slot;
  const struct quant *c = arg;
  struct xf_quant_args part = c->op;
  const size_t first = item * TASK_COLUMNS, rest = c->op.n - first;
  part.n = rest < TASK_COLUMNS ? rest : TASK_COLUMNS;
  part.w = (const char *)c->op.w + item * TASK_PANELS * xf_quant_panel_bytes(c->format, c->op.k);
  part.y = c->op.y + first;
  c->base.context->kernels->quant->linear(&part);
}

static void quant_run(void *self)
{
  struct quant *c = self;
  c->op.w = arena_next((size_t)c->base.bytes);
  xf_parallel(c->base.context, c->op.rows, quantize_row, c);
  xf_parallel(c->base.context, (c->op.n + TASK_COLUMNS - 1) / TASK_COLUMNS, multiply, c);
}

static void quant_free(void *self)
{
  struct quant *c = self;
  xf_free(c->x), xf_free(c->op.y);
  xf_free(c->op.x.q), xf_free(c->op.x.d), xf_free(c->op.x.sums);
  free(c);
}

struct bench_case *quant_case(const xf_context *context, xf_type type, size_t rows, size_t n,
                              size_t k)
{
  struct quant *c = calloc(1, sizeof *c);
  if (!c) return NULL;
  c->format = xf_quant_format_of(type);
  const size_t panels = (n + XF_LANES - 1) / XF_LANES, q = rows * xf_quant_k(k);
  c->base = (struct bench_case){.context = context,
                                .flops = 2.0 * (double)rows * (double)n * (double)k,
                                .bytes = (double)(panels * xf_quant_panel_bytes(c->format, k)),
                                .cold = true,
                                .integers = true,
                                .run = quant_run,
                                .free = quant_free};
  c->x = xf_alloc(rows * k, sizeof *c->x);
  c->op = (struct xf_quant_args){.type = type, .rows = rows, .k = k, .n = n, .ldy = n};
  c->op.y = xf_alloc_zeroed(rows * n, sizeof *c->op.y);
  c->op.x = (struct xf_quant_rows){xf_alloc(q, 1), xf_alloc(q / XF_LANES, sizeof(float)),
                                   xf_alloc(q / XF_LANES, sizeof(int16_t))};
  if (!c->x || !c->op.y || !c->op.x.q || !c->op.x.d || !c->op.x.sums) {
    quant_free(c);
    return NULL;
  }
  arena_fill(c->x, rows * k);
  return &c->base;
}
