#include "tests/attention_call.h"

#include "tests/isas.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct iteration {
  pthread_t thread;
  xf_task task;
  void *arg;
  size_t index;
};

static void *run_iteration(void *arg)
{
  struct iteration *i = arg;
  i->task(i->arg, i->index);
  return NULL;
}

void thread_each(void *pool, size_t n, xf_task task, void *arg)
{
  struct iteration iterations[8];
  (void)pool;
  if (n > 8) abort();
  for (size_t i = 0; i < n; i++) {
    iterations[i] = (struct iteration){.task = task, .arg = arg, .index = i};
    if (pthread_create(&iterations[i].thread, NULL, run_iteration, &iterations[i])) abort();
  }
  for (size_t i = 0; i < n; i++) pthread_join(iterations[i].thread, NULL);
}

xf_context *context_new(const char *isa, uint32_t threads, xf_parallel_for parallel_for)
{
  xf_context_options options = {
      .struct_size = sizeof options, .isa = isa, .threads = threads, .parallel_for = parallel_for};
  xf_context *context;
  xf_error error;
  if (xf_context_create(&options, &context, &error)) fail_msg("%s", error.message);
  return context;
}

static float *new_floats(size_t n)
{
  float *p = malloc((n + 1) * sizeof *p);
  assert_non_null(p);
  return p;
}

xf_context *contexts[MOST_CONTEXTS], *reference;
size_t n_contexts;

int contexts_set_up(void **state)
{
  static const uint32_t threads[] = {1, 2, 5};
  (void)state;
  for (const struct xf_kernels *k = NULL; (k = next_isa(k));) {
    for (size_t i = 0; i < 3; i++)
      contexts[n_contexts++] = context_new(k->name, threads[i], thread_each);
  }
  contexts[n_contexts++] = context_new(NULL, 3, NULL);
  reference = context_new("scalar", 1, NULL);
  return 0;
}

int contexts_tear_down(void **state)
{
  (void)state;
  for (size_t i = 0; i < n_contexts; i++) xf_context_destroy(contexts[i]);
  xf_context_destroy(reference);
  return 0;
}

void call_set_layout(struct call *c, size_t gap)
{
  struct xf_kv_layout *kv = &c->a.kv;
  *kv = xf_kv_layout_dense(kv->type, kv->page_len, kv->d_k, kv->d_v);
  if (kv->type == XF_I8) gap *= sizeof(float);
  kv->k_offset += gap;
  kv->v_offset += gap;
  c->a.q_head_stride = (ptrdiff_t)kv->d_k;
  c->a.out_head_stride = (ptrdiff_t)kv->d_v;
  c->a.lse_stride = (ptrdiff_t)c->a.q_heads;
  c->a.lse_head_stride = 1;
}

struct call_data *call_add(struct call *c, size_t first, size_t q_len, size_t kv_len)
{
  const struct xf_attention *a = &c->a;
  assert_true(a->n < MOST_SEQUENCES && a->kv.d_k <= MOST_D && a->kv.d_v <= MOST_D);
  struct call_data *data = &c->data[a->n];
  data->q = new_floats(q_len * (size_t)a->q_stride);
  data->k = new_floats(kv_len * a->kv_heads * a->kv.d_k);
  data->v = new_floats(kv_len * a->kv_heads * a->kv.d_v);
  c->sequences[c->a.n++] = (struct xf_attention_sequence){
      .first = (ptrdiff_t)first, .q_len = q_len, .kv_len = kv_len, .q = data->q};
  return data;
}

void call_write_pages(struct call *c)
{
  const struct xf_attention *a = &c->a;
  const struct xf_kv_layout *kv = &a->kv;
  struct xf_attention_sequence *s = &c->sequences[a->n - 1];
  struct call_data *data = &c->data[a->n - 1];
  size_t bytes = (kv->k_offset + a->kv_heads * kv->head_stride) * xf_type_size(kv->type);
  data->n_pages = (s->kv_len + kv->page_len - 1) / kv->page_len;
  data->pages = malloc((data->n_pages + 1) * sizeof *data->pages);
  data->memory = malloc((data->n_pages + 1) * sizeof *data->memory);
  assert_true(data->pages && data->memory);
  for (size_t i = 0; i < data->n_pages; i++) {
    data->memory[i] = guarded_new(bytes);
    data->pages[i] = data->memory[i].data;
    memset(data->pages[i], 0, bytes);
  }
  float nan[MOST_HEADS * MOST_D];
  for (size_t i = 0; i < a->kv_heads * MOST_D; i++) nan[i] = NAN;
  for (size_t i = 0; i < data->n_pages * kv->page_len; i++) {
    const float *k = data->k + i * a->kv_heads * kv->d_k, *v = data->v + i * a->kv_heads * kv->d_v;
    int live = i < s->kv_len;
    xf_kv_write(&xf_kernels_scalar, kv, a->kv_heads, data->pages, i, live ? k : nan,
                live ? v : nan);
  }
  size_t rows = s->kv_len * a->kv_heads;
  round_rows(kv->type, rows, kv->d_k, data->k);
  round_rows(kv->type, rows, kv->d_v, data->v);
  s->pages = data->pages;
  for (size_t i = 0; i < s->q_len; i++) {
    float *row = data->q + i * (size_t)a->q_stride;
    for (size_t j = a->q_heads * kv->d_k; j < (size_t)a->q_stride; j++) row[j] = NAN;
  }
}

void call_free(struct call *c)
{
  for (size_t i = 0; i < c->a.n; i++) {
    for (size_t j = 0; j < c->data[i].n_pages; j++) guarded_free(&c->data[i].memory[j]);
    free(c->data[i].memory);
    free(c->data[i].pages);
    free(c->data[i].q);
    free(c->data[i].k);
    free(c->data[i].v);
  }
}

struct call_result result_new(const struct call *c)
{
  struct call_result r;
  for (size_t i = 0; i < c->a.n; i++) {
    size_t q_len = c->sequences[i].q_len;
    r.out[i] = new_floats(q_len * (size_t)c->a.out_stride);
    r.lse[i] = new_floats(q_len * c->a.q_heads);
  }
  return r;
}

void result_free(struct call_result *r, size_t n)
{
  for (size_t i = 0; i < n; i++) free(r->out[i]), free(r->lse[i]);
}

void run_call(const xf_context *context, const struct call *c, enum call_kind kind, size_t q_block,
              enum xf_attention_split_mode split, struct call_result *r)
{
  struct xf_attention a = c->a;
  struct xf_attention_sequence sequences[MOST_SEQUENCES];
  memcpy(sequences, c->sequences, sizeof sequences);
  a.sequences = sequences, a.q_block = q_block, a.split = split;
  for (size_t i = 0; i < a.n; i++) {
    sequences[i].out = r->out[i], sequences[i].lse = r->lse[i];
    memset(r->out[i], 0xA5, sequences[i].q_len * (size_t)a.out_stride * sizeof(float));
    memset(r->lse[i], 0xA5, sequences[i].q_len * a.q_heads * sizeof(float));
  }
  size_t floats = kind == FLASH ? xf_attention_workspace_floats(&a, context->threads)
                                : xf_attention_standard_floats(context, &a);
  struct guarded workspace = guarded_new(floats * sizeof(float));
  memset(workspace.data, 0xFF, floats * sizeof(float));
  (kind == FLASH ? xf_attention_flash : xf_attention_standard)(context, &a, workspace.data);
  guarded_free(&workspace);
}

void expect_same(const struct call *c, const char *what, const char *isa,
                 const struct call_result *got, const struct call_result *want)
{
  size_t width = c->a.q_heads * c->a.kv.d_v;
  for (size_t i = 0; i < c->a.n; i++) {
    size_t q_len = c->sequences[i].q_len;
    expect_bits(what, isa, got->lse[i], want->lse[i], q_len * c->a.q_heads);
    for (size_t t = 0; t < q_len; t++) {
      const float *row = got->out[i] + t * (size_t)c->a.out_stride;
      expect_bits(what, isa, row, want->out[i] + t * (size_t)c->a.out_stride, width);
      expect_poison("gap between rows of out", isa, row + width, (size_t)c->a.out_stride - width);
    }
  }
}

static size_t visible_of(const struct call *c, size_t sequence, size_t token)
{
  const struct xf_attention_sequence *s = &c->sequences[sequence];
  if (!c->a.causal || s->first + token + 1 > s->kv_len) return s->kv_len;
  return s->first + token + 1;
}

struct attention_row call_row(const struct call *c, size_t sequence, size_t token, size_t head)
{
  const struct xf_attention *a = &c->a;
  const struct call_data *data = &c->data[sequence];
  size_t kv_head = head / (a->q_heads / a->kv_heads);
  return (struct attention_row){.d_k = a->kv.d_k,
                                .d_v = a->kv.d_v,
                                .n = visible_of(c, sequence, token),
                                .q = data->q + token * (size_t)a->q_stride + head * a->kv.d_k,
                                .k = data->k + kv_head * a->kv.d_k,
                                .v = data->v + kv_head * a->kv.d_v,
                                .ldk = a->kv_heads * a->kv.d_k,
                                .ldv = a->kv_heads * a->kv.d_v,
                                .c = a->scale * 0x1.715476p+0f};
}
