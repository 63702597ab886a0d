#include "tests/host_call.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { PACKED_STEP = 16 };

/* ---- keys and values ---- */

struct host_options host_options_random(struct rng *rng)
{
  struct host_options o = {.order = (enum host_order)rng_below(rng, 3),
                           .layout = (xf_kv_layout_kind)rng_below(rng, 3),
                           .padded = rng_below(rng, 3) == 0,
                           .wide = rng_below(rng, 3) == 0};
  o.page_len = o.layout == XF_KV_PACKED ? 16 * (1 + rng_below(rng, 5)) : 1 + rng_below(rng, 70);
  return o;
}

static void place_sequences(struct rng *rng, struct host_call *call, struct host_options o)
{
  const struct host_case *c = call->c;
  size_t step = o.layout == XF_KV_PACKED ? PACKED_STEP : 1, most = 0;
  for (size_t b = 0; b < c->batch; b++) {
    call->kv_begin[b] = o.padded ? (int64_t)(step * rng_below(rng, 80 / step)) : 0;
    call->kv_len[b] = call->kv_begin[b] + c->kv_lens[b];
    most = (size_t)call->kv_len[b] > most ? (size_t)call->kv_len[b] : most;
  }
  call->inner = most + rng_below(rng, 3);
  if (o.layout == XF_KV_PLAIN) return;
  call->inner = o.page_len;
  call->table_len = (most + o.page_len - 1) / o.page_len + 1;
}

/* Gives every sequence pages of its own in any order; those that hold no key have absurd numbers.
 */
static void deal_pages(struct rng *rng, struct host_call *call)
{
  size_t batch = call->c->batch, n = batch * call->table_len, used = 0;
  uint32_t order[HOST_SEQUENCES * 2000];
  if (n == 0) return;
  assert_true(n <= sizeof order / sizeof *order);
  for (size_t i = 0; i < n; i++) order[i] = (uint32_t)i;
  host_shuffle(rng, (uint32_t)n, order);
  call->table = guarded_new(n * sizeof *order);
  call->numbers = call->table.data;
  for (size_t b = 0; b < batch; b++)
    for (size_t i = 0; i < call->table_len; i++) {
      bool holds = (int64_t)((i + 1) * call->inner) > call->kv_begin[b] &&
                   (int64_t)(i * call->inner) < call->kv_len[b];
      call->numbers[b * call->table_len + i] = holds ? order[used++] : UINT32_MAX;
    }
}

/* The row of a tensor [.., inner, ..] that holds a position of sequence b. */
static size_t slot_of(const struct host_call *call, size_t b, size_t position)
{
  size_t index = (size_t)call->kv_begin[b] + position;
  if (!call->table_len) return b * call->inner + index;
  return call->numbers[b * call->table_len + index / call->inner] * call->inner +
         index % call->inner;
}

static size_t pages_of(const struct host_call *call)
{
  return call->c->batch * (call->table_len ? call->table_len : 1);
}

static struct host_tensor tensor_of_kv(struct rng *rng, const struct host_call *call, int which,
                                       struct host_options o, bool scales)
{
  const struct host_case *c = call->c;
  xf_type type = o.wide || scales ? XF_F32 : c->types[which];
  const char *from = (const char *)c->kv[which];
  if (o.wide) from = (const char *)c->wide[which];
  if (scales) from = (const char *)c->scales[which];
  size_t d = scales ? 1 : host_case_d(c, which);
  size_t shape[] = {pages_of(call), call->inner, c->kv_heads, d};
  size_t row = c->kv_heads * d * xf_type_size(type);
  char *dense = malloc(shape[0] * shape[1] * row + 1);
  assert_non_null(dense);
  memset(dense, HOST_UNREAD, shape[0] * shape[1] * row);
  for (size_t b = 0; b < c->batch; b++)
    for (size_t i = 0; i < (size_t)c->kv_lens[b]; i++)
      memcpy(dense + slot_of(call, b, i) * row, from + (b * c->keys + i) * row, row);
  struct host_tensor t =
      host_tensor_new(rng, type, scales ? 3 : 4, shape, o.order, c->same_kv_heads ? 4 : 0);
  host_tensor_fill(&t, dense);
  free(dense);
  return t;
}

/* Of packed pages: exact for both K and V. */
static xf_type page_type(const struct host_case *c, struct host_options o)
{
  return c->types[0] == c->types[1] && !o.wide ? c->types[0] : XF_F32;
}

/* Bytes and their scale, as exactflash/attention.h has them in a page. */
static void place_bytes(struct host_call *call, int which, size_t b, size_t i, size_t head)
{
  const struct host_case *c = call->c;
  size_t at = slot_of(call, b, i), page = at / call->inner, slot = at % call->inner;
  size_t row = (b * c->keys + i) * c->kv_heads + head, d = host_case_d(c, which), lane = slot % 16;
  size_t v_stride = (c->d_v + 15) / 16 * 16, panels = call->inner / 16;
  size_t k_panel = 64 + c->d_k * 16, v_panel = 64 + 16 * v_stride;
  char *panel = (char *)call->kv[0].memory.data + page * (size_t)call->kv[0].view.stride[0] +
                head * panels * (k_panel + v_panel);
  panel += which ? panels * k_panel + slot / 16 * v_panel : slot / 16 * k_panel;
  memcpy(panel + lane * sizeof(float), &c->scales[which][row], sizeof(float));
  for (size_t j = 0; j < d; j++)
    panel[64 + (which ? lane * v_stride + j : j * 16 + lane)] = (char)c->kv[which][row * d + j];
}

static void place_sequence(struct host_call *call, size_t b)
{
  for (size_t i = 0; i < (size_t)call->c->kv_lens[b]; i++)
    for (size_t head = 0; head < call->c->kv_heads; head++)
      for (int which = 0; which < 2; which++) place_bytes(call, which, b, i, head);
}

static void pack_sequence(struct rng *rng, struct host_call *call, const xf_context *context,
                          struct host_options o, size_t b)
{
  const struct host_case *c = call->c;
  xf_error error;
  for (size_t from = 0, n; from < (size_t)c->kv_lens[b]; from += n) {
    struct host_tensor t[2];
    n = 1 + rng_below(rng, (size_t)c->kv_lens[b] - from);
    for (int which = 0; which < 2; which++) {
      bool wide = o.wide || c->types[which] == XF_I8;
      size_t shape[] = {n, c->kv_heads, host_case_d(c, which)};
      xf_type type = wide ? XF_F32 : c->types[which];
      size_t row = shape[1] * shape[2] * xf_type_size(type);
      const char *source = wide ? (const char *)c->wide[which] : (const char *)c->kv[which];
      t[which] = host_tensor_new(rng, type, 3, shape, HOST_SEQ_HEADS, c->same_kv_heads ? 2 : 0);
      host_tensor_fill(&t[which], source + (b * c->keys + from) * row);
    }
    xf_status status =
        xf_kv_pack(context, call->kv[0].view.type, call->inner, &t[0].view, &t[1].view,
                   (size_t)call->kv_begin[b] + from, call->kv[0].memory.data,
                   (size_t)call->kv[0].view.stride[0], (size_t)call->kv[0].view.shape[0],
                   call->numbers + b * call->table_len, &error);
    if (status) fail_msg("xf_kv_pack: %s", error.message);
    host_tensor_free(&t[0]), host_tensor_free(&t[1]);
  }
}

/* Pages, zeroed as xf_kv_pack wants them. */
static void pack_pages(struct rng *rng, struct host_call *call, const xf_context *context,
                       struct host_options o)
{
  const struct host_case *c = call->c;
  size_t bytes, pages = pages_of(call);
  xf_error error;
  xf_type type = page_type(c, o);
  if (xf_kv_page_bytes(type, call->inner, c->kv_heads, c->d_k, c->d_v, &bytes, &error))
    fail_msg("xf_kv_page_bytes: %s", error.message);
  bytes += (type == XF_I8 ? 4 : xf_type_size(type)) * rng_below(rng, 3);
  struct host_tensor *t = &call->kv[0];
  t->bytes = pages * bytes;
  t->memory = guarded_new(t->bytes);
  memset(t->memory.data, 0, t->bytes);
  t->view = (xf_view){t->memory.data,
                      type,
                      4,
                      {(int64_t)pages, (int64_t)call->inner, (int64_t)c->kv_heads, (int64_t)c->d_k},
                      {(int64_t)bytes}};
  for (size_t b = 0; b < c->batch; b++) {
    if (type == XF_I8)
      place_sequence(call, b);
    else
      pack_sequence(rng, call, context, o, b);
  }
  call->kv[1].view = t->view;
  call->kv[1].view.shape[3] = (int64_t)c->d_v;
}

/* ---- calls ---- */

static void place_outputs(struct rng *rng, struct host_call *call, struct host_options o)
{
  const struct host_case *c = call->c;
  size_t shape[] = {c->batch, c->q_len, c->q_heads, c->d_v};
  call->out = host_tensor_new(rng, XF_F32, 4, shape, o.order, 0);
  call->lse = host_tensor_new(rng, XF_F32, 3, shape, o.order, 0);
}

static void place_mask(struct rng *rng, struct host_call *call, struct host_options o)
{
  const struct host_case *c = call->c;
  size_t keys = 0;
  for (size_t b = 0; b < c->batch; b++)
    keys = (size_t)call->kv_len[b] > keys ? (size_t)call->kv_len[b] : keys;
  bool same = c->mask_same >> 3 & 1;
  size_t shape[] = {c->batch, c->q_heads, c->q_len, keys}, n = shape[0] * shape[1] * shape[2];
  size_t size = xf_type_size(c->mask_type);
  char *dense = malloc(n * keys * size + 1);
  assert_non_null(dense);
  memset(dense, HOST_UNREAD, n * keys * size);
  for (size_t row = 0; row < n; row++) {
    size_t b = row / (shape[1] * shape[2]);
    for (size_t i = 0; i < keys; i++) {
      size_t position = i - (size_t)call->kv_begin[b];
      if (position >= c->keys && !same) continue;
      float value = c->mask[row * c->keys + (same ? 0 : position)];
      unsigned char shown = value == 0 ? (unsigned char)(1 + rng_below(rng, 255)) : 0;
      memcpy(dense + (row * keys + i) * size, size == 1 ? (void *)&shown : (void *)&value, size);
    }
  }
  /* Left padding moves a sequence's keys, which may then not be the same for all. */
  unsigned mask_same = o.padded && !same ? c->mask_same & ~1u : c->mask_same;
  call->mask = host_tensor_new(rng, c->mask_type, 4, shape, o.order, mask_same);
  host_tensor_fill(&call->mask, dense);
  free(dense);
}

static void describe(struct host_call *call, struct host_options o)
{
  const struct host_case *c = call->c;
  call->desc = (xf_attention_desc){.struct_size = sizeof call->desc,
                                   .q = call->q.view,
                                   .kv = {.layout = o.layout,
                                          .k = call->kv[0].view,
                                          .v = call->kv[1].view,
                                          .k_scale = call->scales[0].view,
                                          .v_scale = call->scales[1].view,
                                          .page_table = call->numbers,
                                          .page_table_stride = (int64_t)call->table_len,
                                          .kv_begin = call->kv_begin,
                                          .kv_len = call->kv_len},
                                   .out = call->out.view,
                                   .lse = call->lse.view,
                                   .q_lens = c->q_lens,
                                   .q_first = c->q_first,
                                   .scale = c->scale,
                                   .soft_cap = c->soft_cap,
                                   .causal = c->causal,
                                   .window = c->window,
                                   .mask = call->mask.view,
                                   .alibi_slopes = c->slopes,
                                   .sinks = c->sinks};
}

/* The descriptor points into the call: it must not be copied before this. */
static void set_lengths(struct host_call *call)
{
  if (call->desc.kv.kv_begin) call->desc.kv.kv_begin = call->kv_begin;
  if (call->desc.kv.kv_len) call->desc.kv.kv_len = call->kv_len;
}

struct host_call host_call_new(struct rng *rng, const xf_context *context,
                               const struct host_case *c, struct host_options o)
{
  struct host_call call = {.c = c};
  size_t shape[] = {c->batch, c->q_len, c->q_heads, c->d_k};
  place_sequences(rng, &call, o);
  deal_pages(rng, &call);
  call.q = host_tensor_new(rng, XF_F32, 4, shape, o.order, c->same_q_heads ? 4 : 0);
  host_tensor_fill(&call.q, c->q);
  if (o.layout == XF_KV_PACKED) {
    pack_pages(rng, &call, context, o);
  } else {
    for (int which = 0; which < 2; which++) {
      call.kv[which] = tensor_of_kv(rng, &call, which, o, false);
      if (!o.wide && c->types[which] == XF_I8)
        call.scales[which] = tensor_of_kv(rng, &call, which, o, true);
    }
  }
  if (c->mask) place_mask(rng, &call, o);
  place_outputs(rng, &call, o);
  describe(&call, o);
  return call;
}

void host_call_free(struct host_call *call)
{
  struct host_tensor *tensors[] = {&call->q,         &call->kv[0], &call->kv[1], &call->scales[0],
                                   &call->scales[1], &call->mask,  &call->out,   &call->lse};
  for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++) host_tensor_free(tensors[i]);
  if (call->numbers) guarded_free(&call->table);
}

struct host_result host_result_new(const struct host_case *c)
{
  size_t rows = c->batch * c->q_len * c->q_heads;
  struct host_result r = {malloc((rows * c->d_v + 1) * sizeof(float)),
                          malloc((rows + 1) * sizeof(float))};
  assert_true(r.out && r.lse);
  return r;
}

void host_result_free(struct host_result *r)
{
  free(r->out), free(r->lse);
}

struct part {
  const struct host_call *call;
  const xf_context *context;
  void *workspace;
  size_t bytes, ith, nth;
  pthread_barrier_t *barrier;
  pthread_t thread;
  xf_status status;
  xf_error error;
};

static void *run_part(void *arg)
{
  struct part *part = arg;
  for (int phase = 0; phase < 2 && !part->status; phase++) {
    if (phase == 1) pthread_barrier_wait(part->barrier);
    part->status = xf_attention_part(part->context, &part->call->desc, part->workspace, part->bytes,
                                     phase, part->ith, part->nth, &part->error);
  }
  return NULL;
}

static void run_parts(const struct part *shared)
{
  struct part parts[8];
  pthread_barrier_t barrier;
  assert_true(shared->nth <= 8);
  assert_int_equal(pthread_barrier_init(&barrier, NULL, (unsigned)shared->nth), 0);
  for (size_t i = 0; i < shared->nth; i++) {
    parts[i] = *shared;
    parts[i].ith = i, parts[i].barrier = &barrier;
    assert_int_equal(pthread_create(&parts[i].thread, NULL, run_part, &parts[i]), 0);
  }
  for (size_t i = 0; i < shared->nth; i++) {
    pthread_join(parts[i].thread, NULL);
    if (parts[i].status) fail_msg("xf_attention_part: %s", parts[i].error.message);
  }
  pthread_barrier_destroy(&barrier);
}

void host_call_run(struct host_call *call, const xf_context *context, size_t nth,
                   struct host_result *r)
{
  struct part part = {.call = call, .context = context, .nth = nth};
  set_lengths(call);
  if (xf_attention_workspace(context, &call->desc, nth, &part.bytes, &part.error))
    fail_msg("xf_attention_workspace: %s", part.error.message);
  /* The workspace is aligned, and so ends up to 15 bytes in front of the guard. */
  size_t padded = (part.bytes + 15) / 16 * 16;
  struct guarded workspace = guarded_new(padded);
  part.workspace = workspace.data;
  memset(workspace.data, 0xFF, part.bytes);
  memset(call->out.memory.data, HOST_POISON, call->out.bytes);
  memset(call->lse.memory.data, HOST_POISON, call->lse.bytes);
  if (nth)
    run_parts(&part);
  else if (xf_attention(context, &call->desc, workspace.data, part.bytes, &part.error))
    fail_msg("xf_attention: %s", part.error.message);
  expect_poison("behind the workspace", xf_context_isa(context),
                (float *)(void *)((char *)workspace.data + part.bytes),
                (padded - part.bytes) / sizeof(float));
  host_tensor_take(&call->out, "gaps of out", r->out);
  host_tensor_take(&call->lse, "gaps of lse", r->lse);
  guarded_free(&workspace);
}
