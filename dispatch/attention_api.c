/* The public attention operator: the internal one, built from a host's checked descriptor. */
#include "exactflash/attention.h"

#include <string.h>

#include "dispatch/attention_request.h"
#include "dispatch/error.h"
#include "dispatch/memory.h"
#include "dispatch/views.h"

enum { WORKERS_MAX = 4096, ALIGNMENT = 16 };

/* A workspace: each worker's copy of the sequences, then what the operator needs. */
struct plan {
  struct xf_attention_request request;
  struct xf_attention a;
  size_t workers;
  size_t sequences_bytes; /* of one copy */
  size_t bytes;           /* of all */
};

static ptrdiff_t in_floats(int64_t bytes)
{
  return (ptrdiff_t)(bytes / (int64_t)sizeof(float));
}

static struct xf_kv_tensor tensor_of(const xf_view *tensor, const xf_view *scale)
{
  return (struct xf_kv_tensor){.type = tensor->type,
                               .page = tensor->stride[0],
                               .token = tensor->stride[1],
                               .head = tensor->stride[2],
                               .scale_page = scale->stride[0],
                               .scale_token = scale->stride[1],
                               .scale_head = scale->stride[2]};
}

static struct xf_attention attention_of(const struct xf_attention_request *r)
{
  const xf_attention_desc *d = &r->desc;
  size_t d_k = (size_t)d->kv.k.shape[3], d_v = (size_t)d->kv.v.shape[3];
  xf_type type = d->kv.layout == XF_KV_PACKED ? d->kv.k.type : XF_F32; /* that kernels read */
  struct xf_attention a = {
      .kv = xf_kv_layout_dense(type, r->page_len, d_k, d_v),
      .view = {tensor_of(&d->kv.k, &d->kv.k_scale), tensor_of(&d->kv.v, &d->kv.v_scale),
               r->page_len},
      .q_heads = r->q_heads,
      .kv_heads = r->kv_heads,
      .q_stride = in_floats(d->q.stride[1]),
      .q_head_stride = in_floats(d->q.stride[2]),
      .out_stride = in_floats(d->out.stride[1]),
      .out_head_stride = in_floats(d->out.stride[2]),
      .lse_stride = in_floats(d->lse.stride[1]),
      .lse_head_stride = in_floats(d->lse.stride[2]),
      .scale = d->scale,
      .soft_cap = d->soft_cap,
      .slopes = d->alibi_slopes,
      .sinks = d->sinks,
      .causal = d->causal != 0,
      .window = (size_t)d->window,
      .q_block = d->q_block,
      .split = (enum xf_attention_split_mode)d->split,
      .n = r->batch,
  };
  if (d->kv.layout == XF_KV_PLAIN) a.view.page_len = SIZE_MAX;
  if (d->kv.layout == XF_KV_PACKED) a.view.page_len = 0;
  if (d->mask.data)
    a.mask =
        (struct xf_mask){d->mask.type, d->mask.stride[1], d->mask.stride[2], d->mask.stride[3]};
  return a;
}

/* Element b of a view's first dimension. */
static char *at(const xf_view *view, size_t b)
{
  return view->data ? (char *)(uintptr_t)view->data + (int64_t)b * view->stride[0] : NULL;
}

static struct xf_attention_sequence sequence_of(const struct xf_attention_request *r, size_t b)
{
  const xf_attention_desc *d = &r->desc;
  int64_t kv_len = xf_request_entry(d->kv.kv_len, b, (int64_t)r->keys);
  int64_t begin = xf_request_entry(d->kv.kv_begin, b, 0);
  int64_t q_len = xf_request_entry(d->q_lens, b, (int64_t)r->q_len);
  size_t kv_index = d->kv.layout == XF_KV_PLAIN ? b : 0;
  struct xf_attention_sequence s = {
      .k = at(&d->kv.k, kv_index),
      .v = at(&d->kv.v, kv_index),
      .k_scale = at(&d->kv.k_scale, kv_index),
      .v_scale = at(&d->kv.v_scale, kv_index),
      .kv_begin = (size_t)begin,
      .first = (ptrdiff_t)xf_request_entry(d->q_first, b, kv_len - begin - q_len),
      .q_len = (size_t)q_len,
      .kv_len = (size_t)(kv_len - begin),
      .q = (const float *)(const void *)at(&d->q, b),
      .out = (float *)(void *)at(&d->out, b),
      .lse = (float *)(void *)at(&d->lse, b),
      .mask = at(&d->mask, b),
  };
  if (d->kv.layout != XF_KV_PLAIN)
    s.page_table = d->kv.page_table + (int64_t)b * d->kv.page_table_stride;
  return s;
}

/* Puts a worker's copy of the sequences into its part of the workspace. */
static void fill_sequences(struct plan *plan, char *workspace, size_t worker)
{
  struct xf_attention_sequence *sequences =
      (struct xf_attention_sequence *)(void *)(workspace + worker * plan->sequences_bytes);
  for (size_t b = 0; b < plan->request.batch; b++) sequences[b] = sequence_of(&plan->request, b);
  plan->a.sequences = sequences;
}

static float *floats_of(const struct plan *plan, char *workspace)
{
  return (float *)(void *)(workspace + plan->workers * plan->sequences_bytes);
}

/* Bytes of the largest workspace that could be asked for, as a number that cannot overflow. */
static double most_bytes(const struct plan *plan)
{
  const struct xf_attention_request *r = &plan->request;
  double rows = (double)r->q_heads * (double)r->q_len, blocks = 0;
  for (size_t b = 0; b < r->batch; b++)
    blocks += 1 + (double)xf_request_entry(r->desc.kv.kv_len, b, (int64_t)r->keys) / XF_BLOCK;
  return (double)plan->workers * (0x1p24 + 16 * rows + 256 * (double)r->batch) +
         blocks * rows * 4 * (XF_HEAD_DIM_MAX + 2);
}

static xf_status make_plan(const xf_context *context, const xf_attention_desc *desc, size_t workers,
                           struct plan *plan, xf_error *error)
{
  xf_status status = xf_attention_request_check(context, desc, &plan->request, error);
  if (status) return status;
  plan->workers = workers ? workers : context->threads;
  if (plan->workers > WORKERS_MAX || most_bytes(plan) > 0x1p60)
    return xf_fail(error, XF_E_ARGUMENT,
                   "xf_attention: %zu workers (at most %d), or a workspace "
                   "that no memory holds",
                   plan->workers, WORKERS_MAX);
  plan->a = attention_of(&plan->request);
  plan->a.q_blocks = context->q_blocks;
  size_t batch = plan->request.batch;
  plan->sequences_bytes = xf_round_up(batch * sizeof(struct xf_attention_sequence), ALIGNMENT);
  struct xf_attention_size size = {0};
  for (size_t b = 0; b < batch; b++) {
    struct xf_attention_sequence s = sequence_of(&plan->request, b);
    xf_attention_size_add(&size, &plan->a, s.q_len, s.kv_len);
  }
  size_t floats = xf_attention_size_floats(&size, &plan->a, plan->workers);
  plan->bytes = plan->workers * plan->sequences_bytes + floats * sizeof(float);
  return XF_OK;
}

static xf_status check_workspace(const struct plan *plan, const void *workspace, size_t bytes,
                                 xf_error *error)
{
  if (bytes < plan->bytes)
    return xf_fail(error, XF_E_ARGUMENT, "workspace: %zu bytes; %zu are needed", bytes,
                   plan->bytes);
  if (!workspace || (uintptr_t)workspace % ALIGNMENT)
    return xf_fail(error, XF_E_ARGUMENT, "workspace: %p is NULL or not aligned to %d bytes",
                   workspace, ALIGNMENT);
  const xf_attention_desc *d = &plan->request.desc;
  const xf_view memory = {workspace, XF_I8, 1, {(int64_t)plan->bytes}, {1}};
  if (xf_attention_request_reads(&plan->request, &memory) || xf_views_overlap(&d->out, &memory) ||
      xf_views_overlap(&d->lse, &memory))
    return xf_fail(error, XF_E_ARGUMENT, "workspace: overlaps a tensor");
  return XF_OK;
}

xf_status xf_attention_workspace(const xf_context *context, const xf_attention_desc *desc,
                                 size_t workers, size_t *bytes, xf_error *error)
{
  struct plan plan;
  if (!bytes) return xf_fail(error, XF_E_ARGUMENT, "xf_attention_workspace: bytes is NULL");
  xf_status status = make_plan(context, desc, workers, &plan, error);
  if (!status) *bytes = plan.bytes;
  return status;
}

xf_status xf_attention(const xf_context *context, const xf_attention_desc *desc, void *workspace,
                       size_t bytes, xf_error *error)
{
  struct plan plan;
  xf_status status = make_plan(context, desc, 0, &plan, error);
  if (!status) status = check_workspace(&plan, workspace, bytes, error);
  if (status) return status;
  fill_sequences(&plan, workspace, 0);
  xf_attention_flash(context, &plan.a, floats_of(&plan, workspace));
  return XF_OK;
}

xf_status xf_attention_part(const xf_context *context, const xf_attention_desc *desc,
                            void *workspace, size_t bytes, int phase, size_t ith, size_t nth,
                            xf_error *error)
{
  struct plan plan;
  if ((phase != 0 && phase != 1) || nth == 0 || ith >= nth)
    return xf_fail(error, XF_E_ARGUMENT, "xf_attention_part: phase %d, worker %zu of %zu", phase,
                   ith, nth);
  xf_status status = make_plan(context, desc, nth, &plan, error);
  if (!status) status = check_workspace(&plan, workspace, bytes, error);
  if (status) return status;
  fill_sequences(&plan, workspace, ith);
  xf_attention_flash_part(context, &plan.a, floats_of(&plan, workspace), phase, ith, nth);
  return XF_OK;
}
