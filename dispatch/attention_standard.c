#include <string.h>

#include "dispatch/attention_tile.h"

/* The whole score matrix of all heads at once, as the textbook has it; one softmax over each row.
 * It is flash attention's kernel with one block of keys as long as the sequence. */
struct standard {
  const xf_context *context;
  const struct xf_attention *a;
  const struct xf_attention_sequence *sequence;
  const void **k, **v; /* [kv_heads][panels] */
  size_t panels;
  float *scores; /* [q_heads][q_len][16 · panels] */
  float *slots;  /* q and acc of each thread */
};

static size_t panels_of(const struct xf_attention_sequence *sequence)
{
  return (sequence->kv_len + XF_LANES - 1) / XF_LANES;
}

/* Floats that hold n pointers, rounded up so that floats behind them are aligned. */
static size_t pointer_floats(size_t n)
{
  return xf_round_up(n * sizeof(void *) / sizeof(float), XF_LANES);
}

static size_t sequence_floats(const struct xf_attention *a,
                              const struct xf_attention_sequence *sequence)
{
  size_t panels = panels_of(sequence);
  return pointer_floats(2 * a->kv_heads * panels) +
         a->q_heads * sequence->q_len * panels * XF_LANES;
}

size_t xf_attention_standard_floats(const xf_context *context, const struct xf_attention *a)
{
  size_t most = 0;
  for (size_t i = 0; i < a->n; i++) {
    size_t floats = sequence_floats(a, &a->sequences[i]);
    most = floats > most ? floats : most;
  }
  return most + context->threads * xf_tile_floats(a, XF_ATTENTION_ROWS);
}

static void standard_task(void *arg, size_t slot, size_t task)
{
  const struct standard *s = arg;
  size_t group = s->a->q_heads / s->a->kv_heads, d_v = s->a->kv.d_v;
  struct xf_tile t = {.a = s->a, .sequence = s->sequence, .group = group};
  t.rows = s->sequence->q_len * group;
  size_t tiles = (t.rows + XF_ATTENTION_ROWS - 1) / XF_ATTENTION_ROWS;
  t.head = task / tiles;
  size_t r0 = task % tiles * XF_ATTENTION_ROWS, n = xf_min(XF_ATTENTION_ROWS, t.rows - r0);
  float *base = s->slots + slot * xf_tile_floats(s->a, XF_ATTENTION_ROWS);
  struct xf_tile_scratch scratch;
  xf_tile_scratch_at(s->a, base, &scratch);
  scratch.lds = s->panels * XF_LANES;
  scratch.s = s->scores + (t.head * t.rows + r0) * scratch.lds;
  struct xf_keys keys = {.type = s->a->kv.type,
                         .n = s->sequence->kv_len,
                         .k = s->k + t.head * s->panels,
                         .v = s->v + t.head * s->panels,
                         .v_stride = s->a->kv.v_stride};
  struct xf_partials partials;
  xf_tile_partial(s->context, &t, r0, n, &keys, &scratch, &partials);
  for (size_t i = 0; i < n; i++) {
    xf_tile_finish(s->context, &t, r0 + i, partials.m[i], partials.l[i],
                   scratch.acc + i * xf_padded(d_v));
  }
}

void xf_attention_standard(const xf_context *context, const struct xf_attention *a,
                           float *workspace)
{
  for (size_t i = 0; i < a->n; i++) {
    struct standard s = {.context = context, .a = a, .sequence = &a->sequences[i]};
    s.panels = panels_of(s.sequence);
    s.k = (const void **)(void *)workspace;
    s.v = s.k + a->kv_heads * s.panels;
    s.scores = workspace + pointer_floats(2 * a->kv_heads * s.panels);
    s.slots = workspace + sequence_floats(a, s.sequence);
    for (size_t j = 0; j < a->kv_heads * s.panels; j++) {
      size_t position = j % s.panels * XF_LANES;
      xf_kv_panel(&a->kv, j / s.panels, s.sequence->pages[position / a->kv.page_len],
                  position % a->kv.page_len, &s.k[j], &s.v[j]);
    }
    size_t rows = s.sequence->q_len * (a->q_heads / a->kv_heads);
    size_t tiles = (rows + XF_ATTENTION_ROWS - 1) / XF_ATTENTION_ROWS;
    xf_parallel(context, a->kv_heads * tiles, standard_task, &s);
  }
}
