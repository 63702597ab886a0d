#include <string.h>

#include "dispatch/attention.h"
#include "dispatch/memory.h"
#include "dispatch/narrow.h"
#include "dispatch/widen.h"
#include "kernels/quant.h"

/* Elements in front of a panel's: the scales of XF_I8. */
static size_t scale_elements(xf_type type)
{
  return type == XF_I8 ? XF_LANES * sizeof(float) : 0;
}

static size_t k_panel(xf_type type, size_t d_k)
{
  return scale_elements(type) + XF_LANES * d_k;
}

static size_t v_panel(xf_type type, size_t v_stride)
{
  return scale_elements(type) + XF_LANES * v_stride;
}

struct xf_kv_layout xf_kv_layout_dense(xf_type type, size_t page_len, size_t d_k, size_t d_v)
{
  size_t v_stride = xf_round_up(d_v, XF_LANES), panels = page_len / XF_LANES;
  return (struct xf_kv_layout){.type = type,
                               .page_len = page_len,
                               .d_k = d_k,
                               .d_v = d_v,
                               .v_stride = v_stride,
                               .v_offset = panels * k_panel(type, d_k),
                               .head_stride =
                                   panels * (k_panel(type, d_k) + v_panel(type, v_stride))};
}

size_t xf_kv_alignment(xf_type type)
{
  return type == XF_I8 ? sizeof(float) : xf_type_size(type);
}

const void *xf_kv_elements(const struct xf_kv_layout *kv, const void *panel)
{
  return (const char *)panel + scale_elements(kv->type) * xf_type_size(kv->type);
}

void xf_kv_panel(const struct xf_kv_layout *kv, size_t head, const void *page, size_t slot,
                 const void **k, const void **v)
{
  size_t panel = slot / XF_LANES, first = head * kv->head_stride, size = xf_type_size(kv->type);
  size_t k_at = kv->k_offset + first + panel * k_panel(kv->type, kv->d_k);
  size_t v_at = kv->v_offset + first + panel * v_panel(kv->type, kv->v_stride);
  *k = (const char *)page + k_at * size;
  *v = (const char *)page + v_at * size;
}

/* One head's share of a position. */
struct slot {
  char *k, *v; /* the first element; those of k are 16 apart */
  char *k_scale, *v_scale;
};

static struct slot slot_of(const struct xf_kv_layout *kv, size_t head, const void *page,
                           size_t slot)
{
  const void *k, *v;
  size_t lane = slot % XF_LANES, size = xf_type_size(kv->type);
  xf_kv_panel(kv, head, page, slot, &k, &v);
  return (struct slot){.k = (char *)(uintptr_t)xf_kv_elements(kv, k) + lane * size,
                       .v = (char *)(uintptr_t)xf_kv_elements(kv, v) + lane * kv->v_stride * size,
                       .k_scale = (char *)(uintptr_t)k + lane * sizeof(float),
                       .v_scale = (char *)(uintptr_t)v + lane * sizeof(float)};
}

/* A row, rounded as 8-bit activations are: its q, `step` apart, and their scale. */
static void write_bytes(const struct xf_kernels *kernels, size_t n, const float *x, size_t step,
                        char *q, char *scale)
{
  int8_t row[XF_HEAD_DIM_MAX];
  float d;
  int16_t sums[XF_HEAD_DIM_MAX / XF_LANES];
  int32_t total;
  kernels->quant->quantize(n, 0, x, (struct xf_quant_rows){row, &d, sums, &total});
  for (size_t i = 0; i < n; i++) q[i * step] = (char)row[i];
  memcpy(scale, &d, sizeof d);
}

void xf_kv_write_head(const struct xf_kernels *kernels, const struct xf_kv_layout *kv, size_t head,
                      void *page, size_t slot, const float *k, const float *v)
{
  struct slot to = slot_of(kv, head, page, slot);
  if (kv->type == XF_I8) {
    write_bytes(kernels, kv->d_k, k, XF_LANES, to.k, to.k_scale);
    write_bytes(kernels, kv->d_v, v, 1, to.v, to.v_scale);
  } else {
    xf_narrow(kv->type, kv->d_k, k, XF_LANES, to.k);
    xf_narrow(kv->type, kv->d_v, v, 1, to.v);
  }
}

void xf_kv_write(const struct xf_kernels *kernels, const struct xf_kv_layout *kv, size_t kv_heads,
                 void *const *pages, size_t position, const float *k, const float *v)
{
  void *page = pages[position / kv->page_len];
  for (size_t head = 0; head < kv_heads; head++)
    xf_kv_write_head(kernels, kv, head, page, position % kv->page_len, k + head * kv->d_k,
                     v + head * kv->d_v);
}

static float scale_at(const struct xf_kv_layout *kv, const char *at)
{
  float scale = 0;
  if (kv->type == XF_I8) memcpy(&scale, at, sizeof scale);
  return scale;
}

void xf_kv_read(const struct xf_kernels *kernels, const struct xf_kv_layout *kv, size_t kv_heads,
                void *const *pages, size_t position, float *k, float *v)
{
  const char *page = pages[position / kv->page_len];
  size_t size = xf_type_size(kv->type);
  for (size_t head = 0; head < kv_heads; head++) {
    struct slot from = slot_of(kv, head, page, position % kv->page_len);
    char row[XF_HEAD_DIM_MAX * sizeof(float)];
    for (size_t i = 0; i < kv->d_k; i++) memcpy(row + i * size, from.k + i * XF_LANES * size, size);
    xf_widen_row(kernels, kv->type, kv->d_k, row, scale_at(kv, from.k_scale), k + head * kv->d_k);
    xf_widen_row(kernels, kv->type, kv->d_v, from.v, scale_at(kv, from.v_scale),
                 v + head * kv->d_v);
  }
}
