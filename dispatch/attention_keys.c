#include <string.h>

#include "dispatch/attention_tile.h"
#include "dispatch/widen.h"

/* One row of a host's K or V. */
struct host_row {
  const char *data;
  float scale; /* of XF_I8 */
};

static struct host_row row_at(const struct xf_tile *t, const struct xf_kv_tensor *tensor,
                              const char *base, const char *scales, size_t key)
{
  size_t page_len = t->a->view.page_len, page = key / page_len, slot = key % page_len;
  if (t->sequence->page_table) page = t->sequence->page_table[page];
  struct host_row row = {.data = base + (ptrdiff_t)page * tensor->page +
                                 (ptrdiff_t)slot * tensor->token +
                                 (ptrdiff_t)t->head * tensor->head};
  if (tensor->type == XF_I8)
    memcpy(&row.scale,
           scales + (ptrdiff_t)page * tensor->scale_page + (ptrdiff_t)slot * tensor->scale_token +
               (ptrdiff_t)t->head * tensor->scale_head,
           sizeof row.scale);
  return row;
}

/* Asks for the row that is wanted ROWS_AHEAD rows later, if it is before `end`: rows of a head lie
 * apart, where prefetchers do not follow. */
static void ask_ahead(const struct xf_tile *t, const struct xf_kv_tensor *tensor, const char *base,
                      const char *scales, size_t d, size_t key, size_t end)
{
  enum { ROWS_AHEAD = 16 };
  if (key + ROWS_AHEAD >= end) return;
  struct host_row row = row_at(t, tensor, base, scales, key + ROWS_AHEAD);
  xf_ask_for(row.data, d * xf_type_size(tensor->type));
}

static void widen_row(const xf_context *context, xf_type type, struct host_row row, size_t d,
                      float *out)
{
  xf_widen_row(context->kernels, type, d, row.data, row.scale, out);
}

/* Packs keys [first, first + n) as K panels; lanes behind the last key are zeros. */
static void pack_k(const xf_context *context, const struct xf_tile *t, size_t first, size_t n,
                   float *out)
{
  static const float nothing[XF_HEAD_DIM_MAX];
  const struct xf_kv_tensor *k = &t->a->view.k;
  size_t d = t->a->kv.d_k, begin = t->sequence->kv_begin + first;
  for (size_t i = 0; i < n; i += XF_LANES, out += XF_LANES * d) {
    float wide[XF_LANES][XF_HEAD_DIM_MAX];
    const float *rows[XF_LANES];
    for (size_t lane = 0; lane < XF_LANES; lane++) {
      rows[lane] = nothing;
      if (i + lane >= n) continue;
      struct host_row from = row_at(t, k, t->sequence->k, t->sequence->k_scale, begin + i + lane);
      ask_ahead(t, k, t->sequence->k, t->sequence->k_scale, d, begin + i + lane, begin + n);
      rows[lane] = k->type == XF_F32 ? (const float *)(const void *)from.data : wide[lane];
      if (k->type != XF_F32) widen_row(context, k->type, from, d, wide[lane]);
    }
    context->kernels->pack_panel(d, rows, out);
  }
}

static void pack_v(const xf_context *context, const struct xf_tile *t, size_t first, size_t n,
                   float *out)
{
  const struct xf_kv_tensor *v = &t->a->view.v;
  size_t d = t->a->kv.d_v, stride = xf_padded(d), begin = t->sequence->kv_begin + first;
  for (size_t i = 0; i < n; i++, out += stride) {
    struct host_row from = row_at(t, v, t->sequence->v, t->sequence->v_scale, begin + i);
    ask_ahead(t, v, t->sequence->v, t->sequence->v_scale, d, begin + i, begin + n);
    widen_row(context, v->type, from, d, out);
    memset(out + d, 0, (stride - d) * sizeof *out);
  }
}

/* Panels of packed pages, where they lie. */
static void packed_keys(const struct xf_tile *t, size_t first, size_t panels, const void **k,
                        const void **v)
{
  const struct xf_kv_layout *kv = &t->a->kv;
  const struct xf_attention_sequence *s = t->sequence;
  for (size_t i = 0; i < panels; i++) {
    size_t position = s->kv_begin + first + i * XF_LANES, index = position / kv->page_len;
    const void *page;
    if (s->pages)
      page = s->pages[index];
    else
      page = s->k + (ptrdiff_t)s->page_table[index] * t->a->view.k.page;
    xf_kv_panel(kv, t->head, page, position % kv->page_len, &k[i], &v[i]);
  }
}

/* Has x point to every 16th of rows that lie `stride` bytes apart. */
static void point_to_rows(size_t n, const void *rows, size_t stride, const void **x)
{
  for (size_t i = 0; i * XF_LANES < n; i++) x[i] = (const char *)rows + i * XF_LANES * stride;
}

/* A panel of K in a packed page as floats. */
static void widen_k(const xf_context *context, const struct xf_kv_layout *kv, const void *panel,
                    float *out)
{
  if (kv->type == XF_I8)
    context->kernels->widen_i8_panel(kv->d_k, xf_kv_elements(kv, panel), panel, out);
  else
    xf_widen(context->kernels, kv->type, XF_LANES * kv->d_k, panel, out);
}

/* The first rows of a panel of V. */
static void widen_v(const xf_context *context, const struct xf_kv_layout *kv, const void *panel,
                    size_t rows, float *out)
{
  const char *elements = xf_kv_elements(kv, panel);
  if (kv->type != XF_I8) {
    xf_widen(context->kernels, kv->type, rows * kv->v_stride, elements, out);
    return;
  }
  for (size_t i = 0; i < rows; i++)
    xf_widen_row(context->kernels, kv->type, kv->v_stride, elements + i * kv->v_stride,
                 ((const float *)panel)[i], out + i * kv->v_stride);
}

/* Widens panels of packed pages, whole ones of K and the n keys' rows of V, and has k and v point
 * to the copies. */
static void widen_pages(const xf_context *context, const struct xf_tile *t,
                        const struct xf_tile_scratch *scratch, struct xf_keys *keys, const void **k,
                        const void **v)
{
  const struct xf_kv_layout *kv = &t->a->kv;
  for (size_t i = 0; i < keys->n; i += XF_LANES) {
    size_t rows = xf_min(XF_LANES, keys->n - i);
    widen_k(context, kv, k[i / XF_LANES], scratch->k + i * kv->d_k);
    widen_v(context, kv, v[i / XF_LANES], rows, scratch->v + i * kv->v_stride);
  }
  keys->type = XF_F32;
  point_to_rows(keys->n, scratch->k, kv->d_k * sizeof *scratch->k, k);
  point_to_rows(keys->n, scratch->v, keys->v_stride * sizeof *scratch->v, v);
}

/* Has x point to every 16th row of a host's K or V; returns the elements from row to row. */
static size_t point_to_host(const struct xf_tile *t, const struct xf_kv_tensor *tensor,
                            const char *base, const struct xf_keys *keys, const void **x)
{
  size_t key = t->sequence->kv_begin + keys->first;
  point_to_rows(keys->n, row_at(t, tensor, base, NULL, key).data, (size_t)tensor->token, x);
  return (size_t)tensor->token / xf_type_size(tensor->type);
}

/* A host's keys: where they lie if the kernel can read them there, else packed into the scratch. */
static void host_keys(const xf_context *context, const struct xf_tile *t,
                      const struct xf_tile_scratch *scratch, struct xf_keys *keys, const void **k,
                      const void **v)
{
  const struct xf_attention *a = t->a;
  if (xf_reads_v_in_place(a, t->rows)) {
    keys->type = a->view.v.type;
    keys->v_stride = point_to_host(t, &a->view.v, t->sequence->v, keys, v);
  } else {
    keys->v_stride = xf_padded(a->kv.d_v);
    pack_v(context, t, keys->first, keys->n, scratch->v);
    point_to_rows(keys->n, scratch->v, keys->v_stride * sizeof *scratch->v, v);
  }
  if (xf_reads_k_in_place(a, t->rows)) {
    keys->k_stride = point_to_host(t, &a->view.k, t->sequence->k, keys, k);
  } else {
    pack_k(context, t, keys->first, keys->n, scratch->k);
    point_to_rows(keys->n, scratch->k, a->kv.d_k * sizeof *scratch->k, k);
  }
}

void xf_tile_keys(const xf_context *context, const struct xf_tile *t, size_t first, size_t n,
                  const struct xf_tile_scratch *scratch, const void **k, const void **v,
                  struct xf_keys *out)
{
  *out = (struct xf_keys){
      .type = t->a->kv.type, .first = first, .n = n, .k = k, .v = v, .v_stride = t->a->kv.v_stride};
  if (t->a->view.page_len > 0) {
    host_keys(context, t, scratch, out, k, v);
    return;
  }
  packed_keys(t, first, (n + XF_LANES - 1) / XF_LANES, k, v);
  if (xf_widens_pages(t->a, t->rows)) widen_pages(context, t, scratch, out, k, v);
}
