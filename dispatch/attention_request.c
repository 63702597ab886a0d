#include "dispatch/attention_request.h"

#include <math.h>
#include <string.h>

#include "dispatch/error.h"
#include "dispatch/memory.h"
#include "dispatch/views.h"

enum {
  F32 = 1u << XF_F32,
  KV_TYPES = 1u << XF_F32 | 1u << XF_F16 | 1u << XF_BF16 | 1u << XF_I8,
  MASK_TYPES = 1u << XF_F32 | 1u << XF_BOOL,
  HEADS_MAX = 1 << 16,
  POSITION_MAX = 1 << 30
};

static xf_status check_options(const xf_attention_desc *d, xf_error *error)
{
  if (!isfinite(d->scale)) return xf_fail(error, XF_E_ARGUMENT, "scale: must be finite");
  if (!(d->soft_cap >= 0) || !isfinite(d->soft_cap))
    return xf_fail(error, XF_E_ARGUMENT, "soft_cap: must be finite and not negative; 0 for none");
  if (d->window < 0 || d->window > POSITION_MAX)
    return xf_fail(error, XF_E_ARGUMENT, "window: %lld is not in 0 … 2^30", (long long)d->window);
  if (d->split > XF_KEYS_SPLIT)
    return xf_fail(error, XF_E_ARGUMENT, "split: %u is none of 0, 1, 2", d->split);
  if (d->kv.layout < XF_KV_PLAIN || d->kv.layout > XF_KV_PACKED)
    return xf_fail(error, XF_E_ARGUMENT, "kv.layout: %d is none of plain, paged, packed",
                   (int)d->kv.layout);
  return XF_OK;
}

static xf_status check_queries(struct xf_attention_request *r, xf_error *error)
{
  const xf_view *q = &r->desc.q, *out = &r->desc.out;
  struct xf_view_rule rule = {"q", 4, F32, {-1, -1, -1, -1}, true, false};
  xf_status status = xf_view_check(q, &rule, error);
  if (status) return status;
  r->batch = (size_t)q->shape[0], r->q_len = (size_t)q->shape[1], r->q_heads = (size_t)q->shape[2];
  rule = (struct xf_view_rule){
      "out", 4, F32, {q->shape[0], q->shape[1], q->shape[2], r->desc.kv.v.shape[3]}, true, true};
  status = xf_view_check(out, &rule, error);
  if (status) return status;
  if (!r->desc.lse.data) return XF_OK;
  rule =
      (struct xf_view_rule){"lse", 3, F32, {q->shape[0], q->shape[1], q->shape[2], 0}, false, true};
  return xf_view_check(&r->desc.lse, &rule, error);
}

static xf_status check_scales(const xf_view *tensor, const xf_view *scales, const char *name,
                              xf_error *error)
{
  if (tensor->type != XF_I8) return XF_OK;
  struct xf_view_rule rule = {
      name, 3, F32, {tensor->shape[0], tensor->shape[1], tensor->shape[2], 0}, false, false};
  return xf_view_check(scales, &rule, error);
}

static xf_status check_keys(struct xf_attention_request *r, xf_error *error)
{
  const xf_kv *kv = &r->desc.kv;
  bool plain = kv->layout == XF_KV_PLAIN, packed = kv->layout == XF_KV_PACKED;
  unsigned types = packed ? F32 : KV_TYPES;
  int64_t first = plain ? (int64_t)r->batch : -1;
  struct xf_view_rule rule = {"kv.k",  4,    types, {first, -1, -1, r->desc.q.shape[3]},
                              !packed, false};
  xf_status status = xf_view_check(&kv->k, &rule, error);
  if (status) return status;
  rule = (struct xf_view_rule){
      "kv.v", 4, types, {kv->k.shape[0], kv->k.shape[1], kv->k.shape[2], -1}, !packed, false};
  status = xf_view_check(&kv->v, &rule, error);
  if (!status) status = check_scales(&kv->k, &kv->k_scale, "kv.k_scale", error);
  if (!status) status = check_scales(&kv->v, &kv->v_scale, "kv.v_scale", error);
  if (status) return status;
  r->kv_heads = (size_t)kv->k.shape[2];
  r->page_len = (size_t)kv->k.shape[1];
  r->keys = plain ? r->page_len : POSITION_MAX;
  if (kv->k.shape[3] < 1 || kv->k.shape[3] > XF_HEAD_DIM_MAX || kv->v.shape[3] < 1 ||
      kv->v.shape[3] > XF_HEAD_DIM_MAX)
    return xf_fail(error, XF_E_UNSUPPORTED, "head_dim: %lld and %lld; 1 … %d are supported",
                   (long long)kv->k.shape[3], (long long)kv->v.shape[3], XF_HEAD_DIM_MAX);
  if (r->kv_heads == 0 || r->q_heads == 0 || r->q_heads % r->kv_heads || r->q_heads > HEADS_MAX)
    return xf_fail(error, XF_E_SHAPE, "q_heads %zu is no multiple of kv_heads %zu, or over %d",
                   r->q_heads, r->kv_heads, HEADS_MAX);
  if (packed && (r->page_len == 0 || r->page_len % XF_LANES || kv->k.data != kv->v.data))
    return xf_fail(error, XF_E_SHAPE,
                   "packed pages: page_len %zu must be a multiple of 16, and "
                   "kv.v.data equal to kv.k.data",
                   r->page_len);
  if (!plain && (r->page_len == 0 || !kv->page_table || !kv->kv_len || kv->page_table_stride < 0))
    return xf_fail(error, XF_E_ARGUMENT, "paged keys need page_len > 0, page_table and kv_len");
  return XF_OK;
}

/* The pages of one sequence: as many as it needs, each in the pool. */
static xf_status check_pages(const struct xf_attention_request *r, size_t b, int64_t kv_len,
                             xf_error *error)
{
  const xf_kv *kv = &r->desc.kv;
  int64_t pages = (kv_len + (int64_t)r->page_len - 1) / (int64_t)r->page_len;
  if (pages > kv->page_table_stride && r->batch > 1)
    return xf_fail(error, XF_E_SHAPE,
                   "sequence %zu: %lld keys need %lld pages; page_table_stride is "
                   "%lld",
                   b, (long long)kv_len, (long long)pages, (long long)kv->page_table_stride);
  for (int64_t i = 0; i < pages; i++) {
    uint32_t page = kv->page_table[(int64_t)b * kv->page_table_stride + i];
    if (page >= kv->k.shape[0])
      return xf_fail(error, XF_E_ARGUMENT, "sequence %zu: page_table[%lld] is %u of %lld pages", b,
                     (long long)i, page, (long long)kv->k.shape[0]);
  }
  return XF_OK;
}

static xf_status check_sequence(const struct xf_attention_request *r, size_t b, xf_error *error)
{
  const xf_attention_desc *d = &r->desc;
  int64_t kv_len = xf_request_entry(d->kv.kv_len, b, (int64_t)r->keys),
          begin = xf_request_entry(d->kv.kv_begin, b, 0);
  int64_t q_len = xf_request_entry(d->q_lens, b, (int64_t)r->q_len);
  if (kv_len < 0 || kv_len > (int64_t)r->keys)
    return xf_fail(error, XF_E_SHAPE, "sequence %zu: kv_len %lld is not in 0 … %zu", b,
                   (long long)kv_len, r->keys);
  if (begin < 0 || begin > kv_len)
    return xf_fail(error, XF_E_SHAPE, "sequence %zu: kv_begin %lld is not in 0 … kv_len %lld", b,
                   (long long)begin, (long long)kv_len);
  if (d->kv.layout == XF_KV_PACKED && begin % XF_LANES)
    return xf_fail(error, XF_E_UNSUPPORTED,
                   "sequence %zu: kv_begin %lld of packed pages must be a "
                   "multiple of 16",
                   b, (long long)begin);
  if (q_len < 0 || q_len > (int64_t)r->q_len)
    return xf_fail(error, XF_E_SHAPE, "sequence %zu: q_lens %lld is not in 0 … %zu", b,
                   (long long)q_len, r->q_len);
  int64_t first = xf_request_entry(d->q_first, b, 0);
  if (first < -POSITION_MAX || first > POSITION_MAX)
    return xf_fail(error, XF_E_ARGUMENT, "sequence %zu: q_first %lld is over 2^30", b,
                   (long long)first);
  if (d->mask.data && kv_len > d->mask.shape[3])
    return xf_fail(error, XF_E_SHAPE, "sequence %zu: kv_len %lld, but mask.shape[3] is %lld", b,
                   (long long)kv_len, (long long)d->mask.shape[3]);
  return d->kv.layout == XF_KV_PLAIN ? XF_OK : check_pages(r, b, kv_len, error);
}

static xf_status check_overlap(const struct xf_attention_request *r, xf_error *error)
{
  const xf_attention_desc *d = &r->desc;
  const xf_view *inputs[] = {&d->q, &d->kv.k, &d->kv.v, &d->kv.k_scale, &d->kv.v_scale, &d->mask};
  for (size_t i = 0; i < sizeof inputs / sizeof *inputs; i++)
    if (xf_views_overlap(&d->out, inputs[i]) || xf_views_overlap(&d->lse, inputs[i]))
      return xf_fail(error, XF_E_ARGUMENT, "out or lse overlaps an input");
  if (xf_views_overlap(&d->out, &d->lse)) return xf_fail(error, XF_E_ARGUMENT, "out overlaps lse");
  return XF_OK;
}

xf_status xf_attention_request_check(const xf_context *context, const xf_attention_desc *desc,
                                     struct xf_attention_request *r, xf_error *error)
{
  if (!context || !desc)
    return xf_fail(error, XF_E_ARGUMENT, "xf_attention: context or descriptor is NULL");
  if (desc->struct_size < sizeof desc->struct_size || desc->struct_size > sizeof *desc)
    return xf_fail(error, XF_E_ARGUMENT, "xf_attention_desc: struct_size %zu; set it to sizeof",
                   desc->struct_size);
  memset(r, 0, sizeof *r);
  memcpy(&r->desc, desc, desc->struct_size);
  xf_status status = check_options(&r->desc, error);
  if (!status) status = check_queries(r, error);
  if (!status) status = check_keys(r, error);
  if (!status && r->desc.mask.data) {
    const int64_t *q = r->desc.q.shape;
    struct xf_view_rule rule = {"mask", 4, MASK_TYPES, {q[0], q[2], q[1], -1}, false, false};
    status = xf_view_check(&r->desc.mask, &rule, error);
  }
  for (size_t b = 0; b < r->batch && !status; b++) status = check_sequence(r, b, error);
  if (!status) status = check_overlap(r, error);
  if (r->desc.scale == 0) r->desc.scale = (float)(1.0 / sqrt((double)desc->q.shape[3]));
  return status;
}
