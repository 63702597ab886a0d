#include "dispatch/attention_request.h"

#include <math.h>
#include <stdalign.h>
#include <stdlib.h>
#include <string.h>

#include "dispatch/error.h"
#include "dispatch/memory.h"
#include "dispatch/options.h"
#include "dispatch/views.h"

enum {
  F32 = 1u << XF_F32,
  MASK_TYPES = 1u << XF_F32 | 1u << XF_BOOL,
  HEADS_MAX = 1 << 16,
  POSITION_MAX = 1 << 30
};

/* Numbers as great as scores can use; products of two of them do not overflow. */
static bool usable(float x)
{
  return fabsf(x) <= 0x1p60f;
}

static xf_status check_options(const xf_attention_desc *d, xf_error *error)
{
  if (!usable(d->scale))
    return xf_fail(error, XF_E_ARGUMENT, "scale: %g is not in -2^60 … 2^60", (double)d->scale);
  if (d->soft_cap != 0 && !(d->soft_cap >= 0x1p-60f && usable(d->soft_cap)))
    return xf_fail(error, XF_E_ARGUMENT, "soft_cap: %g is neither 0 (none) nor in 2^-60 … 2^60",
                   (double)d->soft_cap);
  if (d->window < 0 || d->window > POSITION_MAX)
    return xf_fail(error, XF_E_ARGUMENT, "window: %lld is not in 0 … 2^30", (long long)d->window);
  if (d->split > XF_KEYS_SPLIT)
    return xf_fail(error, XF_E_ARGUMENT, "split: %u is none of 0, 1, 2", d->split);
  if (d->kv.layout < XF_KV_PLAIN || d->kv.layout > XF_KV_PACKED)
    return xf_fail(error, XF_E_ARGUMENT, "kv.layout: %d is none of plain, paged, packed",
                   (int)d->kv.layout);
  return XF_OK;
}

static xf_status check_arrays(const xf_attention_desc *d, xf_error *error)
{
  const struct {
    const char *name;
    const void *data;
    size_t alignment;
  } arrays[] = {{"q_lens", d->q_lens, alignof(int64_t)},
                {"q_first", d->q_first, alignof(int64_t)},
                {"kv.kv_begin", d->kv.kv_begin, alignof(int64_t)},
                {"kv.kv_len", d->kv.kv_len, alignof(int64_t)},
                {"kv.page_table", d->kv.page_table, alignof(uint32_t)},
                {"alibi_slopes", d->alibi_slopes, alignof(float)},
                {"sinks", d->sinks, alignof(float)}};
  for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
    if ((uintptr_t)arrays[i].data % arrays[i].alignment)
      return xf_fail(error, XF_E_ARGUMENT, "%s: %p is not aligned to %zu bytes", arrays[i].name,
                     arrays[i].data, arrays[i].alignment);
  return XF_OK;
}

static xf_status check_heads(const struct xf_attention_request *r, xf_error *error)
{
  const float *slopes = r->desc.alibi_slopes, *sinks = r->desc.sinks;
  for (size_t i = 0; i < r->q_heads; i++) {
    if (slopes && !usable(slopes[i]))
      return xf_fail(error, XF_E_ARGUMENT, "alibi_slopes[%zu]: %g is not in -2^60 … 2^60", i,
                     (double)slopes[i]);
    if (sinks && !usable(sinks[i]) && sinks[i] != -INFINITY)
      return xf_fail(error, XF_E_ARGUMENT,
                     "sinks[%zu]: %g is neither -inf (none) nor in -2^60 … 2^60", i,
                     (double)sinks[i]);
  }
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

/* Scales of other types, and those beside packed pages, are not looked at, nor are they an input.
 */
static xf_status check_scales(const xf_kv *kv, const xf_view *tensor, xf_view *scales,
                              const char *name, xf_error *error)
{
  if (tensor->type != XF_I8 || kv->layout == XF_KV_PACKED) {
    *scales = (xf_view){0};
    return XF_OK;
  }
  struct xf_view_rule rule = {
      name, 3, F32, {tensor->shape[0], tensor->shape[1], tensor->shape[2], 0}, false, false};
  return xf_view_check(scales, &rule, error);
}

static xf_status check_layout(const struct xf_attention_request *r, xf_error *error)
{
  const xf_kv *kv = &r->desc.kv;
  if (kv->layout == XF_KV_PLAIN) return XF_OK;
  if (r->page_len == 0 || !kv->page_table || !kv->kv_len)
    return xf_fail(error, XF_E_ARGUMENT,
                   "kv.page_table, kv.kv_len: pages need both, and page_len (kv.k.shape[1]) > 0");
  if (kv->page_table_stride < 0 || kv->page_table_stride > POSITION_MAX)
    return xf_fail(error, XF_E_ARGUMENT, "kv.page_table_stride: %lld is not in 0 … 2^30",
                   (long long)kv->page_table_stride);
  if (kv->layout == XF_KV_PAGED) return XF_OK;
  size_t d_k = (size_t)kv->k.shape[3], d_v = (size_t)kv->v.shape[3], bytes;
  xf_status status =
      xf_kv_page_bytes(kv->k.type, r->page_len, r->kv_heads, d_k, d_v, &bytes, error);
  if (status) return status;
  if (kv->v.type != kv->k.type)
    return xf_fail(error, XF_E_ARGUMENT, "kv.v: %s in packed pages of %s", xf_type_name(kv->v.type),
                   xf_type_name(kv->k.type));
  if (kv->v.data != kv->k.data)
    return xf_fail(error, XF_E_ARGUMENT, "kv.v: data of packed pages must be that of kv.k");
  int64_t alignment = (int64_t)xf_kv_alignment(kv->k.type);
  if ((uintptr_t)kv->k.data % (size_t)alignment || kv->k.stride[0] % alignment)
    return xf_fail(error, XF_E_ARGUMENT,
                   "kv.k: packed pages at %p, %lld bytes apart, no multiples of %zu", kv->k.data,
                   (long long)kv->k.stride[0], (size_t)alignment);
  if (kv->k.shape[0] > 1 && llabs(kv->k.stride[0]) < (long long)bytes)
    return xf_fail(error, XF_E_SHAPE, "kv.k: stride[0] %lld is less than a page of %zu bytes",
                   (long long)kv->k.stride[0], bytes);
  return XF_OK;
}

static xf_status check_keys(struct xf_attention_request *r, xf_error *error)
{
  xf_kv *kv = &r->desc.kv;
  bool plain = kv->layout == XF_KV_PLAIN, packed = kv->layout == XF_KV_PACKED;
  int64_t first = plain ? (int64_t)r->batch : -1;
  /* The other strides of packed pages are not read. */
  for (int i = 1; i < 4 && packed; i++) kv->k.stride[i] = kv->v.stride[i] = 0;
  struct xf_view_rule rule = {"kv.k",  4,    XF_KV_TYPES, {first, -1, -1, r->desc.q.shape[3]},
                              !packed, false};
  xf_status status = xf_view_check(&kv->k, &rule, error);
  if (status) return status;
  rule = (struct xf_view_rule){
      "kv.v", 4, XF_KV_TYPES, {kv->k.shape[0], kv->k.shape[1], kv->k.shape[2], -1}, !packed, false};
  status = xf_view_check(&kv->v, &rule, error);
  if (!status) status = check_scales(kv, &kv->k, &kv->k_scale, "kv.k_scale", error);
  if (!status) status = check_scales(kv, &kv->v, &kv->v_scale, "kv.v_scale", error);
  if (status) return status;
  r->kv_heads = (size_t)kv->k.shape[2];
  r->page_len = (size_t)kv->k.shape[1];
  r->keys = plain ? r->page_len : POSITION_MAX;
  if (kv->k.shape[3] < 1 || kv->k.shape[3] > XF_HEAD_DIM_MAX || kv->v.shape[3] < 1 ||
      kv->v.shape[3] > XF_HEAD_DIM_MAX)
    return xf_fail(error, XF_E_UNSUPPORTED, "head_dim: d_k %lld, d_v %lld; 1 … %d are supported",
                   (long long)kv->k.shape[3], (long long)kv->v.shape[3], XF_HEAD_DIM_MAX);
  if (r->kv_heads == 0 || r->q_heads == 0 || r->q_heads % r->kv_heads || r->q_heads > HEADS_MAX)
    return xf_fail(error, XF_E_SHAPE, "q: %zu heads are no multiple of kv_heads %zu, or over %d",
                   r->q_heads, r->kv_heads, HEADS_MAX);
  return check_layout(r, error);
}

/* The pages of one sequence that hold its keys. */
static xf_status check_pages(const struct xf_attention_request *r, size_t b, int64_t begin,
                             int64_t kv_len, xf_error *error)
{
  const xf_kv *kv = &r->desc.kv;
  int64_t pages = (kv_len + (int64_t)r->page_len - 1) / (int64_t)r->page_len;
  if (pages > kv->page_table_stride && r->batch > 1)
    return xf_fail(error, XF_E_SHAPE,
                   "sequence %zu: %lld keys need %lld pages; kv.page_table_stride is %lld", b,
                   (long long)kv_len, (long long)pages, (long long)kv->page_table_stride);
  for (int64_t i = begin / (int64_t)r->page_len; i < pages; i++) {
    uint32_t page = kv->page_table[(int64_t)b * kv->page_table_stride + i];
    if (page >= kv->k.shape[0])
      return xf_fail(error, XF_E_ARGUMENT, "sequence %zu: kv.page_table[%lld] is %u of %lld pages",
                     b, (long long)i, page, (long long)kv->k.shape[0]);
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
  return d->kv.layout == XF_KV_PLAIN ? XF_OK : check_pages(r, b, begin, kv_len, error);
}

static xf_view bytes_of(const void *data, size_t count, size_t size)
{
  return (xf_view){data, XF_I8, 1, {(int64_t)(count * size)}, {1}};
}

/* Packed pages with all of their bytes. */
static xf_view pages_of(const struct xf_attention_request *r)
{
  const xf_view *k = &r->desc.kv.k;
  size_t bytes = 0;
  (void)xf_kv_page_bytes(k->type, r->page_len, r->kv_heads, (size_t)k->shape[3],
                         (size_t)r->desc.kv.v.shape[3], &bytes, NULL);
  return (xf_view){k->data, XF_I8, 2, {k->shape[0], (int64_t)bytes}, {k->stride[0], 1}};
}

bool xf_attention_request_reads(const struct xf_attention_request *r, const xf_view *memory)
{
  const xf_attention_desc *d = &r->desc;
  if (!memory->data) return false;
  size_t lengths = r->batch * sizeof(int64_t);
  size_t table = r->batch ? (r->batch - 1) * (size_t)d->kv.page_table_stride + 1 : 0;
  bool packed = d->kv.layout == XF_KV_PACKED;
  const xf_view inputs[] = {d->q,
                            packed ? pages_of(r) : d->kv.k,
                            packed ? (xf_view){0} : d->kv.v,
                            d->kv.k_scale,
                            d->kv.v_scale,
                            d->mask,
                            bytes_of(d->q_lens, lengths, 1),
                            bytes_of(d->q_first, lengths, 1),
                            bytes_of(d->kv.kv_begin, lengths, 1),
                            bytes_of(d->kv.kv_len, lengths, 1),
                            bytes_of(d->kv.page_table, table, sizeof(uint32_t)),
                            bytes_of(d->alibi_slopes, r->q_heads, sizeof(float)),
                            bytes_of(d->sinks, r->q_heads, sizeof(float))};
  for (size_t i = 0; i < sizeof inputs / sizeof *inputs; i++)
    if (xf_views_overlap(memory, &inputs[i])) return true;
  return false;
}

static xf_status check_overlap(const struct xf_attention_request *r, xf_error *error)
{
  const xf_attention_desc *d = &r->desc;
  if (xf_attention_request_reads(r, &d->out))
    return xf_fail(error, XF_E_ARGUMENT, "out: overlaps an input");
  if (xf_attention_request_reads(r, &d->lse))
    return xf_fail(error, XF_E_ARGUMENT, "lse: overlaps an input");
  if (xf_views_overlap(&d->out, &d->lse)) return xf_fail(error, XF_E_ARGUMENT, "lse: overlaps out");
  return XF_OK;
}

xf_status xf_attention_request_check(const xf_context *context, const xf_attention_desc *desc,
                                     struct xf_attention_request *r, xf_error *error)
{
  if (!context || !desc)
    return xf_fail(error, XF_E_ARGUMENT, "xf_attention: context or descriptor is NULL");
  /* An older, shorter descriptor ends with a whole field. */
  memset(r, 0, sizeof *r);
  xf_status status = xf_options_read("xf_attention_desc", desc, &r->desc, sizeof r->desc, error);
  if (!status) status = check_options(&r->desc, error);
  if (!status) status = check_arrays(&r->desc, error);
  if (!status) status = check_queries(r, error);
  if (!status) status = check_keys(r, error);
  if (!status) status = check_heads(r, error);
  if (!status && r->desc.mask.data) {
    const int64_t *q = r->desc.q.shape;
    struct xf_view_rule rule = {"mask", 4, MASK_TYPES, {q[0], q[2], q[1], -1}, false, false};
    status = xf_view_check(&r->desc.mask, &rule, error);
  }
  for (size_t b = 0; b < r->batch && !status; b++) status = check_sequence(r, b, error);
  if (!status) status = check_overlap(r, error);
  return status;
}
