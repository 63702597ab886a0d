#include <string.h>

#include "dispatch/error.h"
#include "dispatch/linear.h"
#include "dispatch/memory.h"
#include "dispatch/quant.h"

/* One part: matrices of one type. */
struct pack {
  const struct xf_matrix *matrices;
  const struct xf_linear_part *part;
  char *panels;
  size_t k, panel_bytes;
};

size_t xf_panel_bytes(xf_type type, size_t k)
{
  if (xf_is_quant(type)) return xf_quant_panel_bytes(xf_quant_format_of(type), k);
  return k * XF_LANES * xf_type_size(type);
}

/* Row `row` of the matrices, one below the other; past the last one: none. *step: bytes from one of
 * its 16-bit numbers to the next. */
static struct xf_quant_row row_of(const struct pack *pack, size_t row, size_t *step)
{
  struct xf_quant_row out = {NULL, 0};
  if (row >= pack->part->n) return out;
  const struct xf_matrix *matrix = pack->matrices;
  for (; row >= matrix->n; matrix++) row -= matrix->n;
  out.data = xf_matrix_row(matrix, row, &out.scale);
  *step = matrix->step ? matrix->step : sizeof(uint16_t);
  return out;
}

static void place_16(const char *row, size_t step, size_t k, uint16_t *panel, size_t lane)
{
  for (size_t i = 0; i < k; i++) memcpy(panel + i * XF_LANES + lane, row + step * i, 2);
}

static void place_32(const char *row, size_t k, float *panel, size_t lane)
{
  for (size_t i = 0; i < k; i++) memcpy(panel + i * XF_LANES + lane, row + 4 * i, 4);
}

static void pack_panel(void *arg, size_t slot, size_t panel)
{
  (void)slot;
  const struct pack *pack = arg;
  const struct xf_linear_part *part = pack->part;
  char *to = pack->panels + panel * pack->panel_bytes;
  struct xf_quant_row rows[XF_LANES];
  size_t steps[XF_LANES];
  for (size_t lane = 0; lane < XF_LANES; lane++)
    rows[lane] = row_of(pack, panel * XF_LANES + lane, &steps[lane]);
  if (xf_is_quant(part->type)) {
    xf_quant_pack(part->type, pack->k, rows, to);
    return;
  }
  if ((panel + 1) * XF_LANES > part->n) memset(to, 0, pack->panel_bytes);
  for (size_t lane = 0; lane < XF_LANES && rows[lane].data; lane++) {
    if (part->type == XF_F32)
      place_32(rows[lane].data, pack->k, (float *)to, lane);
    else
      place_16(rows[lane].data, steps[lane], pack->k, (uint16_t *)to, lane);
  }
}

static xf_status check(const struct xf_matrix *matrices, size_t n, xf_error *error)
{
  for (size_t i = 0; i < n; i++) {
    const struct xf_matrix *m = &matrices[i];
    if (m->k != matrices[0].k || m->k == 0 || m->n == 0)
      return xf_fail(error, XF_E_SHAPE,
                     "linear layer: part %zu is [%zu, %zu], the first has k = %zu", i, m->n, m->k,
                     matrices[0].k);
    if (m->k % xf_quant_block(m->type) != 0)
      return xf_fail(error, XF_E_SHAPE, "linear layer: k = %zu is no multiple of %s's %zu", m->k,
                     xf_type_name(m->type), xf_quant_block(m->type));
    if (m->type == XF_I8_ROW && m->k > XF_QUANT_ROW_MAX)
      return xf_fail(error, XF_E_UNSUPPORTED, "linear layer: k = %zu; i8_row has at most %d", m->k,
                     XF_QUANT_ROW_MAX);
  }
  return XF_OK;
}

/* What the parts are: matrices beside each other of one type are one. */
static void plan(const struct xf_matrix *matrices, size_t n, struct xf_linear *out)
{
  *out = (struct xf_linear){.k = matrices[0].k};
  for (size_t i = 0; i < n; i++) {
    if (i == 0 || matrices[i].type != matrices[i - 1].type)
      out->parts[out->n_parts++].type = matrices[i].type;
    out->parts[out->n_parts - 1].n += (uint32_t)matrices[i].n;
    out->n += matrices[i].n;
  }
}

xf_status xf_linear_pack(const xf_context *context, const struct xf_matrix *matrices, size_t n,
                         struct xf_linear *out, xf_error *error)
{
  xf_status status = check(matrices, n, error);
  if (status != XF_OK) return status;
  plan(matrices, n, out);
  out->panels = xf_alloc(xf_linear_bytes(out), 1);
  if (!out->panels)
    return xf_fail(error, XF_E_MEMORY, "out of memory for weights [%zu, %zu]", out->n, out->k);
  struct pack pack = {.matrices = matrices, .k = out->k};
  for (size_t i = 0; i < out->n_parts; i++) {
    pack.part = &out->parts[i];
    pack.panels = xf_linear_panels(out, i);
    pack.panel_bytes = xf_panel_bytes(pack.part->type, out->k);
    xf_parallel(context, (pack.part->n + XF_LANES - 1) / XF_LANES, pack_panel, &pack);
    for (size_t rows = 0; rows < pack.part->n; pack.matrices++) rows += pack.matrices->n;
  }
  return XF_OK;
}

xf_status xf_linear_map(const struct xf_matrix *shapes, size_t n, const void *panels, size_t bytes,
                        struct xf_linear *out, xf_error *error)
{
  struct xf_linear linear;
  xf_status status = check(shapes, n, error);
  if (status != XF_OK) return status;
  plan(shapes, n, &linear);
  if (bytes != xf_linear_bytes(&linear))
    return xf_fail(error, XF_E_FORMAT, "%zu bytes; panels of [%zu, %zu] have %zu", bytes, linear.n,
                   linear.k, xf_linear_bytes(&linear));
  if ((uintptr_t)panels % XF_QUANT_ALIGN != 0)
    return xf_fail(error, XF_E_FORMAT, "its data is not aligned to %d bytes", XF_QUANT_ALIGN);
  linear.panels = (void *)(uintptr_t)panels;
  linear.mapped = true;
  *out = linear;
  return XF_OK;
}

void xf_linear_free(struct xf_linear *linear)
{
  if (!linear->mapped) xf_free(linear->panels);
  *linear = (struct xf_linear){0};
}

size_t xf_linear_part_bytes(const struct xf_linear *linear, size_t part)
{
  size_t panels = (linear->parts[part].n + XF_LANES - 1) / XF_LANES;
  return xf_round_up(panels * xf_panel_bytes(linear->parts[part].type, linear->k), XF_QUANT_ALIGN);
}

size_t xf_linear_bytes(const struct xf_linear *linear)
{
  size_t bytes = 0;
  for (size_t i = 0; i < linear->n_parts; i++) bytes += xf_linear_part_bytes(linear, i);
  return bytes;
}

void *xf_linear_panels(const struct xf_linear *linear, size_t part)
{
  char *panels = linear->panels;
  for (size_t i = 0; i < part; i++) panels += xf_linear_part_bytes(linear, i);
  return panels;
}
