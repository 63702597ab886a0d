#include <string.h>

#include "dispatch/attention.h"
#include "dispatch/memory.h"
#include "dispatch/narrow.h"
#include "dispatch/widen.h"

struct xf_kv_layout xf_kv_layout_dense(xf_type type, size_t page_len, size_t d_k, size_t d_v)
{
  size_t v_stride = xf_round_up(d_v, XF_LANES);
  return (struct xf_kv_layout){.type = type,
                               .page_len = page_len,
                               .d_k = d_k,
                               .d_v = d_v,
                               .v_stride = v_stride,
                               .v_offset = page_len * d_k,
                               .head_stride = page_len * (d_k + v_stride)};
}

/* Bytes from a page's begin to the panel of K that holds the slot, or to its row of V. */
static size_t k_at(const struct xf_kv_layout *kv, size_t head, size_t slot)
{
  size_t panel = slot / XF_LANES * kv->d_k * XF_LANES;
  return (kv->k_offset + head * kv->head_stride + panel) * xf_type_size(kv->type);
}

static size_t v_at(const struct xf_kv_layout *kv, size_t head, size_t slot)
{
  return (kv->v_offset + head * kv->head_stride + slot * kv->v_stride) * xf_type_size(kv->type);
}

void xf_kv_write_head(const struct xf_kv_layout *kv, size_t head, void *page, size_t slot,
                      const float *k, const float *v)
{
  char *panel = (char *)page + k_at(kv, head, slot);
  xf_narrow(kv->type, kv->d_k, k, XF_LANES, panel + slot % XF_LANES * xf_type_size(kv->type));
  xf_narrow(kv->type, kv->d_v, v, 1, (char *)page + v_at(kv, head, slot));
}

void xf_kv_write(const struct xf_kv_layout *kv, size_t kv_heads, void *const *pages,
                 size_t position, const float *k, const float *v)
{
  void *page = pages[position / kv->page_len];
  for (size_t head = 0; head < kv_heads; head++)
    xf_kv_write_head(kv, head, page, position % kv->page_len, k + head * kv->d_k,
                     v + head * kv->d_v);
}

void xf_kv_read(const struct xf_kernels *kernels, const struct xf_kv_layout *kv, size_t kv_heads,
                void *const *pages, size_t position, float *k, float *v)
{
  const char *page = pages[position / kv->page_len];
  size_t slot = position % kv->page_len, size = xf_type_size(kv->type);
  for (size_t head = 0; head < kv_heads; head++) {
    const char *panel = page + k_at(kv, head, slot) + slot % XF_LANES * size;
    char row[XF_HEAD_DIM_MAX * sizeof(float)];
    for (size_t i = 0; i < kv->d_k; i++) memcpy(row + i * size, panel + i * XF_LANES * size, size);
    xf_widen(kernels, kv->type, kv->d_k, row, k + head * kv->d_k);
    xf_widen(kernels, kv->type, kv->d_v, page + v_at(kv, head, slot), v + head * kv->d_v);
  }
}

void xf_kv_panel(const struct xf_kv_layout *kv, size_t head, const void *page, size_t slot,
                 const void **k, const void **v)
{
  *k = (const char *)page + k_at(kv, head, slot);
  *v = (const char *)page + v_at(kv, head, slot);
}
