/* Packed KV pages for hosts. */
#include <stdalign.h>

#include "dispatch/attention.h"
#include "dispatch/error.h"
#include "dispatch/views.h"
#include "dispatch/widen.h"
#include "exactflash/attention.h"

enum { POSITION_MAX = 1 << 30 };
#define PAGE_MAX ((size_t)1 << 48)

xf_status xf_kv_page_bytes(xf_type type, size_t page_len, size_t kv_heads, size_t d_k, size_t d_v,
                           size_t *bytes, xf_error *error)
{
  if (!bytes) return xf_fail(error, XF_E_ARGUMENT, "xf_kv_page_bytes: bytes is NULL");
  if (!xf_type_is_among(type, XF_KV_TYPES))
    return xf_fail(error, XF_E_UNSUPPORTED, "type: packed pages hold f32, f16, bf16 or i8, not %s",
                   xf_type_name(type));
  if (page_len == 0 || page_len % XF_LANES || page_len > 1 << 20)
    return xf_fail(error, XF_E_SHAPE, "page_len: %zu is no multiple of 16 in 16 … 2^20", page_len);
  if (kv_heads == 0 || kv_heads > 1 << 16 || d_k == 0 || d_k > XF_HEAD_DIM_MAX || d_v == 0 ||
      d_v > XF_HEAD_DIM_MAX)
    return xf_fail(error, XF_E_SHAPE, "kv_heads %zu, head_dim %zu and %zu; 1 … 65536 and 1 … %d",
                   kv_heads, d_k, d_v, XF_HEAD_DIM_MAX);
  *bytes = kv_heads * xf_kv_layout_dense(type, page_len, d_k, d_v).head_stride * xf_type_size(type);
  return XF_OK;
}

static xf_status check(const xf_view *k, const xf_view *v, xf_error *error)
{
  const unsigned types = XF_KV_TYPES & ~(1u << XF_I8);
  struct xf_view_rule rule = {"k", 3, types, {-1, -1, -1, 0}, true, false};
  xf_status status = xf_view_check(k, &rule, error);
  if (status) return status;
  rule = (struct xf_view_rule){"v", 3, types, {k->shape[0], k->shape[1], -1, 0}, true, false};
  return xf_view_check(v, &rule, error);
}

static void widen(const xf_context *context, const xf_view *view, size_t i, size_t head, float *out)
{
  const char *row =
      (const char *)view->data + (int64_t)i * view->stride[0] + (int64_t)head * view->stride[1];
  xf_widen(context->kernels, view->type, (size_t)view->shape[2], row, out);
}

/* Where a call writes. */
struct pool {
  char *pages;
  size_t page_bytes, n_pages;
  const uint32_t *table; /* NULL: page i is the i-th */
};

static size_t page_of(const struct pool *pool, size_t i)
{
  return pool->table ? pool->table[i] : i;
}

static xf_status check_pool(const struct pool *pool, xf_type type, size_t needed, xf_error *error)
{
  size_t size = xf_kv_alignment(type);
  if (pool->page_bytes < needed || pool->page_bytes > PAGE_MAX || pool->page_bytes % size ||
      (uintptr_t)pool->pages % size)
    return xf_fail(error, XF_E_ARGUMENT,
                   "pages: %p of %zu bytes each; %zu are needed, multiples of %zu",
                   (void *)pool->pages, pool->page_bytes, needed, size);
  size_t end;
  if (__builtin_mul_overflow(pool->n_pages, pool->page_bytes, &end) ||
      __builtin_add_overflow(end, (uintptr_t)pool->pages, &end))
    return xf_fail(error, XF_E_ARGUMENT, "n_pages: %zu of %zu bytes are more than memory holds",
                   pool->n_pages, pool->page_bytes);
  if ((uintptr_t)pool->table % alignof(uint32_t))
    return xf_fail(error, XF_E_ARGUMENT, "page_table: %p is not aligned",
                   (const void *)pool->table);
  return XF_OK;
}

/* The pages of positions [first, first + n). */
static xf_status check_positions(const struct pool *pool, size_t page_len, size_t first, size_t n,
                                 xf_error *error)
{
  if (first > POSITION_MAX || n > POSITION_MAX - first)
    return xf_fail(error, XF_E_ARGUMENT, "first: %zu and %zu more positions are over 2^30", first,
                   n);
  for (size_t i = first / page_len; n > 0 && i <= (first + n - 1) / page_len; i++)
    if (page_of(pool, i) >= pool->n_pages)
      return xf_fail(error, XF_E_ARGUMENT, "page_table[%zu]%s: page %zu; n_pages is %zu", i,
                     pool->table ? "" : " (none given)", page_of(pool, i), pool->n_pages);
  return XF_OK;
}

static void write_rows(const xf_context *context, const struct xf_kv_layout *layout,
                       const xf_view *k, const xf_view *v, size_t first, const struct pool *pool)
{
  size_t n = (size_t)k->shape[0], heads = (size_t)k->shape[1], page_len = layout->page_len;
  for (size_t i = 0; i < n; i++) {
    size_t page = page_of(pool, (first + i) / page_len), slot = (first + i) % page_len;
    char *base = pool->pages + page * pool->page_bytes;
    for (size_t head = 0; head < heads; head++) {
      float row_k[XF_HEAD_DIM_MAX], row_v[XF_HEAD_DIM_MAX];
      widen(context, k, i, head, row_k);
      widen(context, v, i, head, row_v);
      xf_kv_write_head(context->kernels, layout, head, base, slot, row_k, row_v);
    }
  }
}

xf_status xf_kv_pack(const xf_context *context, xf_type type, size_t page_len, const xf_view *k,
                     const xf_view *v, size_t first, void *pages, size_t page_bytes, size_t n_pages,
                     const uint32_t *page_table, xf_error *error)
{
  if (!context || !k || !v || !pages)
    return xf_fail(error, XF_E_ARGUMENT, "xf_kv_pack: context, k, v or pages is NULL");
  xf_status status = check(k, v, error);
  if (status) return status;
  size_t n = (size_t)k->shape[0], heads = (size_t)k->shape[1], needed;
  size_t d_k = (size_t)k->shape[2], d_v = (size_t)v->shape[2];
  status = xf_kv_page_bytes(type, page_len, heads, d_k, d_v, &needed, error);
  if (status) return status;
  const struct pool pool = {pages, page_bytes, n_pages, page_table};
  status = check_pool(&pool, type, needed, error);
  if (!status) status = check_positions(&pool, page_len, first, n, error);
  if (status) return status;
  if (xf_view_overlaps(k, pages, n_pages * page_bytes) ||
      xf_view_overlaps(v, pages, n_pages * page_bytes))
    return xf_fail(error, XF_E_ARGUMENT, "k, v: overlap the pages");
  struct xf_kv_layout layout = xf_kv_layout_dense(type, page_len, d_k, d_v);
  xf_fp_state caller = xf_fp_enter();
  write_rows(context, &layout, k, v, first, &pool);
  xf_fp_leave(caller);
  return XF_OK;
}
