#include "dispatch/linear.h"

#include <string.h>

#include "dispatch/error.h"
#include "dispatch/memory.h"
#include "dispatch/widen.h"

/* ---- packing ---- */

struct pack {
  const struct xf_kernels *kernels;
  const struct xf_matrix *parts;
  size_t n_parts;
  struct xf_linear *out;
};

/* Row `row` of the parts, one below the other. */
static const struct xf_matrix *part_of(const struct pack *pack, size_t *row)
{
  const struct xf_matrix *part = pack->parts;
  for (; *row >= part->n; part++) *row -= part->n;
  return part;
}

/* Where the file has that row. */
static const char *row_of(const struct xf_matrix *part, size_t row)
{
  if (part->paired) {
    size_t half = part->paired / 2, in_group = row % part->paired;
    row += 2 * (in_group % half) + in_group / half - in_group;
  }
  ptrdiff_t stride = (ptrdiff_t)(part->k * xf_type_size(part->type)) + part->gap;
  return (const char *)part->data + (ptrdiff_t)row * stride;
}

/* Copies row[k0 … k0 + n), in the part's type, to lane `lane` of a panel. */
static void place_16(const char *row, size_t k, uint16_t *panel, size_t lane)
{
  for (size_t i = 0; i < k; i++) memcpy(panel + i * XF_LANES + lane, row + 2 * i, 2);
}

static void place_32(const char *row, size_t k, float *panel, size_t lane)
{
  for (size_t i = 0; i < k; i++) memcpy(panel + i * XF_LANES + lane, row + 4 * i, 4);
}

static void place_widened(const struct pack *pack, const struct xf_matrix *part, const char *row,
                          float *panel, size_t lane)
{
  float wide[XF_BLOCK];
  for (size_t k0 = 0; k0 < part->k; k0 += XF_BLOCK) {
    size_t k = xf_min(XF_BLOCK, part->k - k0);
    xf_widen(pack->kernels, part->type, k, row + k0 * xf_type_size(part->type), wide);
    place_32((const char *)wide, k, panel + k0 * XF_LANES, lane);
  }
}

static void pack_panel(void *arg, size_t slot, size_t panel)
{
  (void)slot;
  const struct pack *pack = arg;
  const struct xf_linear *out = pack->out;
  size_t size = xf_type_size(out->type), bytes = out->k * XF_LANES * size;
  char *to = (char *)out->panels + panel * bytes;
  if ((panel + 1) * XF_LANES > out->n) memset(to, 0, bytes);
  for (size_t lane = 0; lane < XF_LANES && panel * XF_LANES + lane < out->n; lane++) {
    size_t row = panel * XF_LANES + lane;
    const struct xf_matrix *part = part_of(pack, &row);
    const char *from = row_of(part, row);
    if (part->type != out->type)
      place_widened(pack, part, from, (float *)to, lane);
    else if (size == 2)
      place_16(from, out->k, (uint16_t *)to, lane);
    else
      place_32(from, out->k, (float *)to, lane);
  }
}

xf_status xf_linear_pack(const xf_context *context, const struct xf_matrix *parts, size_t n_parts,
                         struct xf_linear *out, xf_error *error)
{
  struct xf_linear linear = {.type = parts[0].type, .k = parts[0].k};
  for (size_t i = 0; i < n_parts; i++) {
    if (parts[i].k != linear.k || parts[i].k == 0 || parts[i].n == 0)
      return xf_fail(error, XF_E_SHAPE,
                     "linear layer: part %zu is [%zu, %zu], the first has k = %zu", i, parts[i].n,
                     parts[i].k, linear.k);
    if (parts[i].type != linear.type) linear.type = XF_F32;
    linear.n += parts[i].n;
  }
  size_t panels = (linear.n + XF_LANES - 1) / XF_LANES;
  linear.panels = xf_alloc(panels * linear.k, XF_LANES * xf_type_size(linear.type));
  if (!linear.panels)
    return xf_fail(error, XF_E_MEMORY, "out of memory for weights [%zu, %zu]", linear.n, linear.k);
  struct pack pack = {context->kernels, parts, n_parts, &linear};
  xf_parallel(context, panels, pack_panel, &pack);
  *out = linear;
  return XF_OK;
}

void xf_linear_free(struct xf_linear *linear)
{
  xf_free(linear->panels);
  *linear = (struct xf_linear){0};
}

size_t xf_linear_bytes(const struct xf_linear *linear)
{
  return xf_round_up(linear->n, XF_LANES) * linear->k * xf_type_size(linear->type);
}

/* ---- applying ---- */

enum {
  TASK_PANELS = 24,  /* a multiple of every tile's panels; wide enough that streams are long */
  TASKS_A_THREAD = 4 /* as many at least, so that a late thread costs little */
};

struct apply {
  const struct xf_linear *w;
  void (*kernel)(const struct xf_linear_args *a);
  struct xf_linear_args args; /* of the whole product */
  size_t task_panels;
  float *scratch;
};

static void apply_task(void *arg, size_t slot, size_t task)
{
  const struct apply *apply = arg;
  const struct xf_linear *w = apply->w;
  struct xf_linear_args a = apply->args;
  size_t panel = task * apply->task_panels, column = panel * XF_LANES;
  a.n = xf_min(apply->task_panels * XF_LANES, w->n - column);
  a.w = (const char *)w->panels + column * w->k * xf_type_size(w->type);
  a.y += column;
  a.scratch = apply->scratch + slot * XF_LINEAR_SCRATCH;
  apply->kernel(&a);
}

void xf_linear_apply(const xf_context *context, const struct xf_linear *w, size_t rows,
                     const float *x, size_t ldx, float *y, size_t ldy, float *scratch)
{
  const struct xf_kernels *kernels = context->kernels;
  size_t panels = (w->n + XF_LANES - 1) / XF_LANES;
  size_t share = panels / ((size_t)context->threads * TASKS_A_THREAD);
  struct apply apply = {
      .w = w,
      .kernel = w->type == XF_F32   ? kernels->linear_f32
                : w->type == XF_F16 ? kernels->linear_f16
                                    : kernels->linear_bf16,
      .args = {.rows = rows, .k = w->k, .x = x, .ldx = ldx, .y = y, .ldy = ldy},
      .task_panels = share >= TASK_PANELS ? TASK_PANELS
                     : share >= 8         ? 8
                                          : 4,
      .scratch = scratch,
  };
  size_t tasks = (panels + apply.task_panels - 1) / apply.task_panels;
  xf_parallel(context, tasks, apply_task, &apply);
}
