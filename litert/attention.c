#include "litert/attention.h"

#include "dispatch/error.h"
#include "dispatch/memory.h"
#include "exactflash/attention.h"
#include "litert/mask.h"

enum { RANK = 4 };

/* A dense f32 tensor; one of lower rank has sizes of 1 in front. */
static xf_view view_of(const TfLiteContext *context, int index)
{
  const TfLiteTensor *tensor = &context->tensors[index];
  xf_view view = {.data = tensor->data, .type = XF_F32, .rank = RANK};
  int64_t stride = sizeof(float);
  for (int i = RANK - 1, from = tensor->dims->size - 1; i >= 0; i--, from--) {
    view.shape[i] = from >= 0 ? tensor->dims->data[from] : 1;
    view.stride[i] = stride;
    stride *= view.shape[i];
  }
  return view;
}

/* Sizes of 1 are stretched to those that are wanted. */
static bool broadcast(xf_view *view, const int64_t shape[static RANK])
{
  for (int i = 0; i < RANK; i++) {
    if (view->shape[i] == shape[i]) continue;
    if (view->shape[i] != 1) return false;
    view->shape[i] = shape[i];
    view->stride[i] = 0;
  }
  return true;
}

static xf_status describe(const TfLiteContext *context, const struct xf_composite *composite,
                          xf_attention_desc *d, xf_error *error)
{
  *d = (xf_attention_desc){.struct_size = sizeof *d,
                           .q = view_of(context, composite->attention.q),
                           .kv.k = view_of(context, composite->attention.k),
                           .kv.v = view_of(context, composite->attention.v),
                           .out = view_of(context, composite->out),
                           .scale = composite->attention.scale,
                           .soft_cap = composite->attention.logit_cap};
  if (composite->attention.mask < 0) return XF_OK;
  const int64_t wanted[RANK] = {d->q.shape[0], d->q.shape[2], d->q.shape[1], d->kv.k.shape[1]};
  d->mask = view_of(context, composite->attention.mask);
  if (broadcast(&d->mask, wanted) && (d->mask.stride[3] != 0 || wanted[3] == 1)) return XF_OK;
  return xf_fail(error, XF_E_SHAPE,
                 "the mask is not shaped as [batch, heads, queries, keys] of q and k, or wider");
}

static xf_status check(const TfLiteContext *context, const struct xf_composite *composite,
                       xf_error *error)
{
  const int tensors[] = {composite->attention.q, composite->attention.k, composite->attention.v,
                         composite->out};
  for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++)
    if (context->tensors[tensors[i]].dims->size != RANK)
      return xf_fail(error, XF_E_SHAPE, "q, k, v or the output is not of four dimensions");
  int mask = composite->attention.mask;
  if (mask >= 0 && context->tensors[mask].dims->size > RANK)
    return xf_fail(error, XF_E_SHAPE, "the mask has more than four dimensions");
  return XF_OK;
}

/* The workspace: xf_attention's, and behind it kv_len and q_first of every sequence. */
static size_t lengths_bytes(const xf_attention_desc *d)
{
  return 2 * (size_t)d->q.shape[0] * sizeof(int64_t);
}

/* Data is not there before the first run, and nobody reads it for a size: the inputs lie behind the
 * output somewhere. */
static void give_places(xf_attention_desc *d)
{
  static const float somewhere[16];
  const void *behind =
      (const void *)((uintptr_t)somewhere + (uintptr_t)(d->out.shape[0] * d->out.stride[0]));
  d->out.data = somewhere;
  d->q.data = d->kv.k.data = d->kv.v.data = behind;
  if (d->mask.rank) d->mask.data = behind;
}

xf_status xf_litert_attention_workspace(const struct xf_litert_engine *engine,
                                        const TfLiteContext *context,
                                        const struct xf_composite *composite, size_t *bytes,
                                        xf_error *error)
{
  xf_attention_desc d;
  xf_status status = check(context, composite, error);
  if (!status) status = describe(context, composite, &d, error);
  if (status) return status;
  give_places(&d);
  size_t alone = 0;
  status = xf_attention_workspace(engine->all, &d, 0, bytes, error);
  if (!status) status = xf_attention_workspace(engine->alone, &d, 0, &alone, error);
  if (status) return status;
  if (*bytes < alone) *bytes = alone;
  *bytes = xf_round_up(*bytes, sizeof(int64_t)) + lengths_bytes(&d);
  return XF_OK;
}

/* Keys that no row sees are left out, and a mask that hides what causality hides is not needed. */
static void take_lengths(xf_attention_desc *d, int64_t *kv_len, int64_t *q_first)
{
  const xf_view *mask = &d->mask;
  const ptrdiff_t f = sizeof(float);
  bool causal = true;
  for (int64_t b = 0; b < d->q.shape[0]; b++) {
    const char *data = (const char *)mask->data + b * mask->stride[0];
    struct xf_visible visible =
        xf_litert_visible((const float *)(const void *)data, mask->stride[1] ? mask->shape[1] : 1,
                          mask->stride[1] / f, mask->shape[2], mask->stride[2] / f, mask->shape[3]);
    kv_len[b] = visible.kv_len;
    q_first[b] = visible.first;
    causal = causal && visible.causal;
  }
  d->kv.kv_len = kv_len;
  if (!causal) return;
  d->causal = 1;
  d->q_first = q_first;
  d->mask = (xf_view){0};
}

/* As xf_litert_engine_for counts it. */
static double work_of(const xf_attention_desc *d)
{
  double keys = 0, heads = (double)d->q.shape[2] * (double)d->q.shape[1];
  for (int64_t b = 0; b < d->q.shape[0]; b++)
    keys += (double)(d->kv.kv_len ? d->kv.kv_len[b] : d->kv.k.shape[1]);
  return keys * (heads + 4 * (double)d->kv.k.shape[2]) *
         (double)(d->kv.k.shape[3] + d->kv.v.shape[3]);
}

xf_status xf_litert_attention_run(const struct xf_litert_engine *engine,
                                  const TfLiteContext *context,
                                  const struct xf_composite *composite, void *workspace,
                                  size_t bytes, xf_error *error)
{
  xf_attention_desc d;
  xf_status status = describe(context, composite, &d, error);
  if (status) return status;
  if (!d.q.data || !d.kv.k.data || !d.kv.v.data || !d.out.data ||
      (composite->attention.mask >= 0 && !d.mask.data))
    return xf_fail(error, XF_E_ARGUMENT, "a tensor of the attention has no data");
  bytes -= lengths_bytes(&d);
  int64_t *kv_len = (int64_t *)(void *)((char *)workspace + bytes);
  if (d.mask.data) take_lengths(&d, kv_len, kv_len + d.q.shape[0]);
  return xf_attention(xf_litert_engine_for(engine, work_of(&d)), &d, workspace, bytes, error);
}
