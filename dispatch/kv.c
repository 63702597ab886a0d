#include <string.h>

#include "dispatch/attention.h"

static float *k_panel(const struct xf_kv_layout *kv, size_t head, float *const *pages,
                      size_t position)
{
  size_t panel = position % kv->page_len / XF_LANES;
  return pages[position / kv->page_len] + kv->k_offset + head * kv->head_stride +
         panel * kv->d_k * XF_LANES;
}

static float *v_row(const struct xf_kv_layout *kv, size_t head, float *const *pages,
                    size_t position)
{
  return pages[position / kv->page_len] + kv->v_offset + head * kv->head_stride +
         position % kv->page_len * kv->v_stride;
}

void xf_kv_write(const struct xf_kv_layout *kv, size_t kv_heads, float *const *pages,
                 size_t position, const float *k, const float *v)
{
  for (size_t head = 0; head < kv_heads; head++) {
    float *panel = k_panel(kv, head, pages, position) + position % XF_LANES;
    for (size_t i = 0; i < kv->d_k; i++) panel[i * XF_LANES] = k[head * kv->d_k + i];
    memcpy(v_row(kv, head, pages, position), v + head * kv->d_v, kv->d_v * sizeof *v);
  }
}

void xf_kv_read(const struct xf_kv_layout *kv, size_t kv_heads, float *const *pages,
                size_t position, float *k, float *v)
{
  for (size_t head = 0; head < kv_heads; head++) {
    const float *panel = k_panel(kv, head, pages, position) + position % XF_LANES;
    for (size_t i = 0; i < kv->d_k; i++) k[head * kv->d_k + i] = panel[i * XF_LANES];
    memcpy(v + head * kv->d_v, v_row(kv, head, pages, position), kv->d_v * sizeof *v);
  }
}

void xf_kv_panels(const struct xf_kv_layout *kv, size_t head, float *const *pages, size_t position,
                  size_t panels, const float **k, const float **v)
{
  for (size_t i = 0; i < panels; i++) {
    k[i] = k_panel(kv, head, pages, position + i * XF_LANES);
    v[i] = v_row(kv, head, pages, position + i * XF_LANES);
  }
}
