#include <string.h>

#include "dispatch/attention.h"
#include "dispatch/memory.h"

struct xf_kv_layout xf_kv_layout_dense(size_t page_len, size_t d_k, size_t d_v)
{
  size_t v_stride = xf_round_up(d_v, XF_LANES);
  return (struct xf_kv_layout){.page_len = page_len,
                               .d_k = d_k,
                               .d_v = d_v,
                               .v_stride = v_stride,
                               .v_offset = page_len * d_k,
                               .head_stride = page_len * (d_k + v_stride)};
}

static float *k_panel(const struct xf_kv_layout *kv, size_t head, float *page, size_t slot)
{
  return page + kv->k_offset + head * kv->head_stride + slot / XF_LANES * kv->d_k * XF_LANES;
}

static float *v_row(const struct xf_kv_layout *kv, size_t head, float *page, size_t slot)
{
  return page + kv->v_offset + head * kv->head_stride + slot * kv->v_stride;
}

void xf_kv_write_head(const struct xf_kv_layout *kv, size_t head, float *page, size_t slot,
                      const float *k, const float *v)
{
  float *panel = k_panel(kv, head, page, slot) + slot % XF_LANES;
  for (size_t i = 0; i < kv->d_k; i++) panel[i * XF_LANES] = k[i];
  memcpy(v_row(kv, head, page, slot), v, kv->d_v * sizeof *v);
}

void xf_kv_write(const struct xf_kv_layout *kv, size_t kv_heads, float *const *pages,
                 size_t position, const float *k, const float *v)
{
  float *page = pages[position / kv->page_len];
  for (size_t head = 0; head < kv_heads; head++)
    xf_kv_write_head(kv, head, page, position % kv->page_len, k + head * kv->d_k,
                     v + head * kv->d_v);
}

void xf_kv_read(const struct xf_kv_layout *kv, size_t kv_heads, float *const *pages,
                size_t position, float *k, float *v)
{
  float *page = pages[position / kv->page_len];
  size_t slot = position % kv->page_len;
  for (size_t head = 0; head < kv_heads; head++) {
    const float *panel = k_panel(kv, head, page, slot) + slot % XF_LANES;
    for (size_t i = 0; i < kv->d_k; i++) k[head * kv->d_k + i] = panel[i * XF_LANES];
    memcpy(v + head * kv->d_v, v_row(kv, head, page, slot), kv->d_v * sizeof *v);
  }
}

void xf_kv_panel(const struct xf_kv_layout *kv, size_t head, float *page, size_t slot,
                 const float **k, const float **v)
{
  *k = k_panel(kv, head, page, slot);
  *v = v_row(kv, head, page, slot);
}
