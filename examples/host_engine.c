/* An engine of one's own around the library's attention: its threads, with a barrier between the
 * two phases, and its paged cache of bf16 keys and values, read through a page table where they
 * lie. The same steps run over packed pages of the same type, which need no copying at all: equal
 * bits. */
#define _POSIX_C_SOURCE 200809L /* barriers */
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "exactflash/exactflash.h"

enum {
  THREADS = 3,
  SEQUENCES = 2,
  Q_HEADS = 8,
  KV_HEADS = 2,
  D = 64,
  PAGE_LEN = 16, /* tokens */
  PAGES = 64,
  TABLE = PAGES / SEQUENCES, /* most pages of a sequence */
  STEPS = 25
};

typedef uint16_t token_kv[KV_HEADS][D];

struct cache {
  token_kv k[PAGES][PAGE_LEN], v[PAGES][PAGE_LEN]; /* bf16 */
  void *packed;                                    /* [PAGES] of packed_bytes each */
  size_t packed_bytes;
  uint32_t table[SEQUENCES][TABLE], used; /* pages are handed out in the order of need */
  int64_t len[SEQUENCES];
};

struct engine {
  xf_context *context;
  pthread_barrier_t barrier;
  pthread_t threads[THREADS]; /* the caller is the first worker: [0] is not used */
  /* The current call. */
  const xf_attention_desc *desc;
  void *workspace;
  size_t bytes;
  bool quit;
  xf_error errors[THREADS];
  xf_status statuses[THREADS];
};

struct worker {
  struct engine *engine;
  size_t ith;
};

/* One worker's share. A failed check fails on every worker alike, before anything is written. */
static void work(struct engine *e, size_t ith)
{
  e->statuses[ith] = xf_attention_part(e->context, e->desc, e->workspace, e->bytes, 0, ith, THREADS,
                                       &e->errors[ith]);
  pthread_barrier_wait(&e->barrier);
  if (!e->statuses[ith])
    e->statuses[ith] = xf_attention_part(e->context, e->desc, e->workspace, e->bytes, 1, ith,
                                         THREADS, &e->errors[ith]);
}

static void *worker_main(void *arg)
{
  struct worker *w = arg;
  for (;;) {
    pthread_barrier_wait(&w->engine->barrier); /* a call begins */
    if (w->engine->quit) return NULL;
    work(w->engine, w->ith);
    pthread_barrier_wait(&w->engine->barrier); /* it is done */
  }
}

static xf_status attend(struct engine *e, const xf_attention_desc *desc, xf_error *error)
{
  size_t bytes;
  xf_status status = xf_attention_workspace(e->context, desc, THREADS, &bytes, error);
  if (status) return status;
  if (bytes > e->bytes) { /* grows with the longest sequence; an engine would ask once */
    free(e->workspace);
    e->workspace = malloc(bytes);
    e->bytes = e->workspace ? bytes : 0;
  }
  e->desc = desc;
  pthread_barrier_wait(&e->barrier);
  work(e, 0);
  pthread_barrier_wait(&e->barrier);
  for (size_t i = 0; i < THREADS && !status; i++) {
    status = e->statuses[i];
    if (status) *error = e->errors[i];
  }
  return status;
}

static float random_float(void)
{
  static uint32_t state = 1;
  state = state * 1664525 + 1013904223;
  return (float)(state >> 8) / (1 << 23) - 1;
}

static uint16_t random_bf16(void)
{
  float x = random_float();
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return (uint16_t)(bits >> 16);
}

/* One token more: into the engine's own page, and into the packed one of the same number. */
static xf_status append(const struct engine *e, struct cache *c, size_t sequence, xf_error *error)
{
  size_t position = (size_t)c->len[sequence]++, slot = position % PAGE_LEN;
  uint32_t *table = c->table[sequence];
  if (slot == 0) table[position / PAGE_LEN] = c->used++;
  uint32_t page = table[position / PAGE_LEN];
  for (size_t i = 0; i < KV_HEADS * D; i++) {
    c->k[page][slot][i / D][i % D] = random_bf16();
    c->v[page][slot][i / D][i % D] = random_bf16();
  }
  xf_view k = {c->k[page][slot], XF_BF16, 3, {1, KV_HEADS, D}, {sizeof(token_kv), D * 2, 2}}, v = k;
  v.data = c->v[page][slot];
  return xf_kv_pack(e->context, XF_BF16, PAGE_LEN, &k, &v, position, c->packed, c->packed_bytes,
                    PAGES, table, error);
}

/* One query of each sequence over all its keys. */
static xf_attention_desc decode_desc(const struct cache *c, const float *q, float *out)
{
  xf_attention_desc desc = {.struct_size = sizeof desc, .causal = 1};
  desc.q = (xf_view){q, XF_F32, 4, {SEQUENCES, 1, Q_HEADS, D}, {Q_HEADS * D * 4, 0, D * 4, 4}};
  desc.out = desc.q;
  desc.out.data = out;
  desc.kv.page_table = c->table[0];
  desc.kv.page_table_stride = TABLE;
  desc.kv.kv_len = c->len;
  return desc;
}

static void use_own_pages(xf_attention_desc *desc, const struct cache *c)
{
  desc->kv.layout = XF_KV_PAGED;
  desc->kv.k = (xf_view){c->k,
                         XF_BF16,
                         4,
                         {PAGES, PAGE_LEN, KV_HEADS, D},
                         {sizeof c->k[0], sizeof(token_kv), D * 2, 2}};
  desc->kv.v = desc->kv.k;
  desc->kv.v.data = c->v;
}

static void use_packed_pages(xf_attention_desc *desc, const struct cache *c)
{
  desc->kv.layout = XF_KV_PACKED;
  desc->kv.k = (xf_view){
      c->packed, XF_BF16, 4, {PAGES, PAGE_LEN, KV_HEADS, D}, {(int64_t)c->packed_bytes, 0, 0, 0}};
  desc->kv.v = desc->kv.k;
}

static xf_status step(struct engine *e, struct cache *c, xf_error *error)
{
  static float q[SEQUENCES * Q_HEADS * D], own[SEQUENCES * Q_HEADS * D],
      packed[SEQUENCES * Q_HEADS * D];
  xf_status status = XF_OK;
  for (size_t s = 0; s < SEQUENCES && !status; s++) status = append(e, c, s, error);
  for (size_t i = 0; i < SEQUENCES * Q_HEADS * D; i++) q[i] = random_float();
  if (status) return status;
  xf_attention_desc desc = decode_desc(c, q, own);
  use_own_pages(&desc, c);
  status = attend(e, &desc, error);
  if (status) return status;
  desc = decode_desc(c, q, packed);
  use_packed_pages(&desc, c);
  status = attend(e, &desc, error);
  if (!status && memcmp(own, packed, sizeof own) != 0) {
    fprintf(stderr, "the bits differ at lengths %d and %d\n", (int)c->len[0], (int)c->len[1]);
    exit(1);
  }
  if (!status)
    printf("lengths %3d and %2d: %f %f\n", (int)c->len[0], (int)c->len[1], (double)own[0],
           (double)own[Q_HEADS * D]);
  return status;
}

static xf_status run(struct engine *e, struct cache *c, xf_error *error)
{
  xf_context_options options = {.struct_size = sizeof options, .threads = 1}; /* ours do the work */
  xf_status status = xf_context_create(&options, &e->context, error);
  if (!status)
    status = xf_kv_page_bytes(XF_BF16, PAGE_LEN, KV_HEADS, D, D, &c->packed_bytes, error);
  if (status) return status;
  c->packed = calloc(PAGES, c->packed_bytes);
  for (int i = 0; i < 101 && !status; i++) status = append(e, c, 0, error);
  for (int i = 0; i < 7 && !status; i++) status = append(e, c, 1, error);
  for (int i = 0; i < STEPS && !status; i++) status = step(e, c, error);
  return status;
}

int main(void)
{
  static struct engine engine;
  static struct cache cache;
  static struct worker workers[THREADS];
  xf_error error;
  pthread_barrier_init(&engine.barrier, NULL, THREADS);
  for (size_t i = 1; i < THREADS; i++) {
    workers[i] = (struct worker){&engine, i};
    if (pthread_create(&engine.threads[i], NULL, worker_main, &workers[i])) return 1;
  }
  xf_status status = run(&engine, &cache, &error);
  if (status) fprintf(stderr, "%s\n", error.message);
  engine.quit = true;
  pthread_barrier_wait(&engine.barrier);
  for (size_t i = 1; i < THREADS; i++) pthread_join(engine.threads[i], NULL);
  pthread_barrier_destroy(&engine.barrier);
  xf_context_destroy(engine.context);
  free(engine.workspace);
  free(cache.packed);
  return status != XF_OK;
}
