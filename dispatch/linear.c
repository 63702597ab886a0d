#include "dispatch/linear.h"

#include "dispatch/memory.h"
#include "dispatch/quant.h"

bool xf_linear_has_quants(const struct xf_linear *linear)
{
  bool has = false;
  for (size_t i = 0; i < linear->n_parts; i++) has |= xf_is_quant(linear->parts[i].type);
  return has;
}

/* ---- scratch ---- */

static size_t chunks_of(struct xf_linear_rows rows)
{
  return rows.quantized * (xf_quant_k(rows.k) / XF_QUANT_CHUNK);
}

size_t xf_linear_rounded(const xf_context *context, const struct xf_linear *linear, size_t rows)
{
  bool has = false;
  for (size_t i = 0; i < linear->n_parts; i++) has |= linear->parts[i].type == XF_BF16;
  return context->fast && has ? rows : 0;
}

size_t xf_linear_scratch_bytes(const xf_context *context, struct xf_linear_rows rows)
{
  size_t floats = context->threads * XF_LINEAR_SCRATCH, chunks = chunks_of(rows);
  return (floats + chunks) * sizeof(float) + rows.quantized * sizeof(int32_t) +
         rows.rounded * xf_fast_pairs(rows.k) * sizeof(uint32_t) +
         (rows.rounded ? XF_QUANT_ALIGN : 0) + chunks * (XF_QUANT_CHUNK / 16) * sizeof(int16_t) +
         rows.quantized * xf_quant_ldq(rows.k) + (rows.quantized ? XF_QUANT_ALIGN : 0);
}

struct xf_linear_scratch xf_linear_scratch_in(void *memory, const xf_context *context,
                                              struct xf_linear_rows rows)
{
  size_t chunks = chunks_of(rows);
  struct xf_linear_scratch scratch = {.floats = memory};
  float *after = scratch.floats + context->threads * XF_LINEAR_SCRATCH;
  if (rows.rounded) {
    scratch.pairs = (uint32_t *)xf_round_up((uintptr_t)after, XF_QUANT_ALIGN);
    after = (float *)(scratch.pairs + rows.rounded * xf_fast_pairs(rows.k));
  }
  if (!rows.quantized) return scratch;
  scratch.x.d = after;
  scratch.x.totals = (int32_t *)(scratch.x.d + chunks);
  scratch.x.sums = (int16_t *)(scratch.x.totals + rows.quantized);
  uintptr_t q = (uintptr_t)(scratch.x.sums + chunks * (XF_QUANT_CHUNK / 16));
  scratch.x.q = (int8_t *)xf_round_up(q, XF_QUANT_ALIGN);
  return scratch;
}

/* ---- applying ---- */

enum {
  TASK_PANELS = 24,   /* a multiple of every tile's panels; wide enough that streams are long */
  TASKS_A_THREAD = 4, /* as many at least, so that a late thread costs little */
  TALL_ROWS = 8 /* so many of floats take three panels on AVX-512, all else a divisor of eight */
};

/* How a part's kernel reads x. */
enum form { AS_FLOATS, AS_INTEGERS, AS_PAIRS };

/* Parts beside each other whose kernels read x in the same form. */
struct apply {
  const xf_context *context;
  const struct xf_linear_scratch *scratch;
  const struct xf_linear *w;
  size_t first, end; /* of the parts */
  size_t rows;
  const float *x;
  size_t ldx;
  float *y; /* of the first part's first column */
  size_t ldy;
  enum form form;
  size_t group; /* of integers */
  size_t task_panels;
};

static size_t panels_of(const struct apply *apply, size_t part)
{
  return (apply->w->parts[part].n + XF_LANES - 1) / XF_LANES;
}

static size_t tasks_of(const struct apply *apply, size_t part)
{
  return (panels_of(apply, part) + apply->task_panels - 1) / apply->task_panels;
}

/* Row r of the quantized activations. */
static struct xf_quant_rows quantized_row(const struct apply *apply, size_t r)
{
  return xf_quant_rows_from(apply->scratch->x, apply->w->k, apply->group, r);
}

static void quantize_row(void *arg, size_t slot, size_t r)
{
  (void)slot;
  const struct apply *apply = arg;
  apply->context->kernels->quant->quantize(apply->w->k, apply->group, apply->x + r * apply->ldx,
                                           quantized_row(apply, r));
}

static void round_row(void *arg, size_t slot, size_t r)
{
  (void)slot;
  const struct apply *apply = arg;
  size_t k = apply->w->k;
  apply->context->fast->round(k, apply->x + r * apply->ldx,
                              apply->scratch->pairs + r * xf_fast_pairs(k));
}

static float *scratch_of(const struct apply *apply, size_t slot)
{
  return apply->scratch->floats + slot * XF_LINEAR_SCRATCH;
}

/* Columns of a part as floats. */
static void apply_floats(const struct apply *apply, size_t slot, xf_type type, const void *w,
                         size_t n, float *y)
{
  const struct xf_kernels *kernels = apply->context->kernels;
  struct xf_linear_args a = {.rows = apply->rows,
                             .k = apply->w->k,
                             .n = n,
                             .x = apply->x,
                             .ldx = apply->ldx,
                             .w = w,
                             .y = y,
                             .ldy = apply->ldy,
                             .scratch = scratch_of(apply, slot),
                             .far = apply->context->far_cache};
  switch (type) {
  case XF_F32: kernels->linear_f32(&a); break;
  case XF_F16: kernels->linear_f16(&a); break;
  case XF_BF16: kernels->linear_bf16(&a); break;
  default: kernels->linear_widened(type, &a); break;
  }
}

static void apply_task(void *arg, size_t slot, size_t task)
{
  const struct apply *apply = arg;
  size_t i = apply->first, k = apply->w->k;
  float *y = apply->y;
  for (; task >= tasks_of(apply, i); y += apply->w->parts[i++].n) task -= tasks_of(apply, i);
  const struct xf_linear_part *part = &apply->w->parts[i];
  size_t panel = task * apply->task_panels, column = panel * XF_LANES;
  size_t n = xf_min(apply->task_panels * XF_LANES, part->n - column);
  const char *w = (char *)xf_linear_panels(apply->w, i) + panel * xf_panel_bytes(part->type, k);
  if (apply->form == AS_INTEGERS)
    apply->context->kernels->quant->linear(
        &(struct xf_quant_args){part->type, apply->rows, k, n, apply->scratch->x, w, y + column,
                                apply->ldy, scratch_of(apply, slot)});
  else if (apply->form == AS_PAIRS)
    apply->context->fast->linear_bf16(
        &(struct xf_fast_args){apply->rows, k, n, apply->scratch->pairs, (const uint16_t *)w,
                               y + column, apply->ldy, scratch_of(apply, slot)});
  else
    apply_floats(apply, slot, part->type, w, n, y + column);
}

static enum form form_of(const struct apply *apply, xf_type type)
{
  if (xf_is_quant(type)) return apply->scratch->x.q ? AS_INTEGERS : AS_FLOATS;
  return type == XF_BF16 && apply->scratch->pairs ? AS_PAIRS : AS_FLOATS;
}

/* The next parts from `first` on that can run together. */
static void choose(struct apply *apply, size_t first)
{
  size_t panels = 0;
  apply->first = first;
  for (apply->end = first; apply->end < apply->w->n_parts; apply->end++) {
    xf_type type = apply->w->parts[apply->end].type;
    enum form form = form_of(apply, type);
    size_t group = form == AS_INTEGERS ? xf_quant_format_of(type).block : 0;
    if (apply->end == first) apply->form = form, apply->group = group;
    if (form != apply->form || group != apply->group) break;
    panels += panels_of(apply, apply->end);
  }
  size_t share = panels / ((size_t)apply->context->threads * TASKS_A_THREAD);
  if (share >= TASK_PANELS)
    apply->task_panels = TASK_PANELS;
  else if (apply->rows >= TALL_ROWS && apply->form != AS_INTEGERS)
    apply->task_panels = share >= 6 ? 6 : 3;
  else
    apply->task_panels = share >= 8 ? 8 : 4;
}

void xf_linear_apply(const xf_context *context, const struct xf_linear *w, size_t rows,
                     const float *x, size_t ldx, float *y, size_t ldy,
                     const struct xf_linear_scratch *scratch)
{
  struct apply apply = {.context = context,
                        .scratch = scratch,
                        .w = w,
                        .rows = rows,
                        .x = x,
                        .ldx = ldx,
                        .y = y,
                        .ldy = ldy};
  while (apply.end < w->n_parts) {
    choose(&apply, apply.end);
    if (apply.form == AS_INTEGERS) xf_parallel(context, rows, quantize_row, &apply);
    if (apply.form == AS_PAIRS) xf_parallel(context, rows, round_row, &apply);
    size_t tasks = 0;
    for (size_t i = apply.first; i < apply.end; i++) tasks += tasks_of(&apply, i);
    xf_parallel(context, tasks, apply_task, &apply);
    for (size_t i = apply.first; i < apply.end; i++) apply.y += w->parts[i].n;
  }
}
