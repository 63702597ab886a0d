#include <string.h>

#include "dispatch/attention_tile.h"
#include "dispatch/memory.h"

enum { BLOCK_PANELS = XF_BLOCK / XF_LANES, TASKS_A_THREAD = 4 };

/* The adaptive policy: longer sequences amortise a block of K and V over more queries, short ones
 * need the tasks. */
static const struct {
  size_t below, q_block;
} policy[] = {{192, 32}, {768, 64}, {SIZE_MAX, 256}};

size_t xf_attention_q_block(size_t kv_len)
{
  size_t i = 0;
  while (kv_len >= policy[i].below) i++;
  return policy[i].q_block;
}

static size_t q_block_of(const struct xf_attention *a, const struct xf_attention_sequence *sequence)
{
  size_t q_block = a->q_block ? a->q_block : xf_attention_q_block(sequence->kv_len);
  return xf_min(q_block, sequence->q_len);
}

static size_t q_blocks_of(const struct xf_attention *a,
                          const struct xf_attention_sequence *sequence)
{
  size_t q_block = q_block_of(a, sequence);
  return q_block ? (sequence->q_len + q_block - 1) / q_block : 0;
}

static size_t k_blocks_of(const struct xf_attention_sequence *sequence)
{
  return (sequence->kv_len + XF_BLOCK - 1) / XF_BLOCK;
}

struct flash {
  const xf_context *context;
  const struct xf_attention *a;
  bool split;       /* a task is one block of keys, too */
  float *workspace; /* scratch of each thread, then the partials */
  size_t slot_floats;
};

/* A record is one row's partial over one block of keys, m, l and acc, where tasks split the keys.
 */
static size_t record_floats(const struct xf_attention *a)
{
  return 2 + xf_padded(a->kv.d_v);
}

/* Records before those of that sequence. */
static size_t records_before(const struct xf_attention *a,
                             const struct xf_attention_sequence *sequence)
{
  size_t records = 0;
  for (const struct xf_attention_sequence *s = a->sequences; s < sequence; s++)
    records += a->q_heads * s->q_len * k_blocks_of(s);
  return records;
}

static float *record_of(const struct flash *f, const struct xf_tile *t, size_t r, size_t block)
{
  size_t head = t->head * t->group + r % t->group, token = t->q0 + r / t->group;
  size_t row = head * t->sequence->q_len + token;
  size_t index = records_before(f->a, t->sequence) + row * k_blocks_of(t->sequence) + block;
  return f->workspace + f->context->threads * f->slot_floats + index * record_floats(f->a);
}

static size_t slot_floats(const struct xf_attention *a)
{
  size_t q_block = 0;
  for (size_t i = 0; i < a->n; i++) {
    size_t block = q_block_of(a, &a->sequences[i]);
    q_block = block > q_block ? block : q_block;
  }
  size_t rows = q_block * (a->q_heads / a->kv_heads);
  return XF_ATTENTION_ROWS * XF_BLOCK + xf_tile_floats(a) + xf_round_up(2 * rows, XF_LANES);
}

/* A thread's scratch; *state: m and l of every row of its q-block. */
static struct xf_tile_scratch scratch_of(const struct flash *f, size_t slot, float **state)
{
  struct xf_tile_scratch scratch = {.s = f->workspace + slot * f->slot_floats, .lds = XF_BLOCK};
  scratch.acc = scratch.s + XF_ATTENTION_ROWS * XF_BLOCK;
  scratch.q = scratch.acc + XF_ATTENTION_ROWS * xf_padded(f->a->kv.d_v);
  *state = scratch.q + XF_ATTENTION_ROWS * xf_padded(f->a->kv.d_k);
  return scratch;
}

/* What becomes of row r's partial over a block: a record, or part of out and the state. */
static void keep_partial(const struct flash *f, const struct xf_tile *t, size_t r, size_t block,
                         float m, float l, const float *acc, float *state)
{
  size_t d_v = f->a->kv.d_v;
  if (!f->split) {
    f->context->kernels->attention_merge(d_v, &state[2 * r], &state[2 * r + 1], xf_tile_out(t, r),
                                         m, l, acc);
    return;
  }
  float *record = record_of(f, t, r, block);
  record[0] = m, record[1] = l;
  if (l != 0) memcpy(record + 2, acc, d_v * sizeof *acc);
}

/* All rows of the tile over one block of keys. */
static void tile_block(const struct flash *f, const struct xf_tile *t, size_t block,
                       const struct xf_tile_scratch *scratch, float *state)
{
  const float *k[BLOCK_PANELS], *v[BLOCK_PANELS];
  struct xf_keys keys = {.first = block * XF_BLOCK, .k = k, .v = v};
  keys.n = xf_min(XF_BLOCK, t->sequence->kv_len - keys.first);
  xf_kv_panels(&f->a->kv, t->head, t->sequence->pages, keys.first,
               (keys.n + XF_LANES - 1) / XF_LANES, k, v);
  for (size_t r0 = 0; r0 < t->rows; r0 += XF_ATTENTION_ROWS) {
    size_t n = xf_min(XF_ATTENTION_ROWS, t->rows - r0);
    struct xf_partials partials;
    xf_tile_partial(f->context, t, r0, n, &keys, scratch, &partials);
    for (size_t i = 0; i < n; i++)
      keep_partial(f, t, r0 + i, block, partials.m[i], partials.l[i],
                   scratch->acc + i * xf_padded(f->a->kv.d_v), state);
  }
}

/* The tile of task `task`; *task becomes the rest that counts inside it. per_tile: tasks a tile. */
static struct xf_tile find_tile(const struct flash *f, size_t *task, bool by_block)
{
  const struct xf_attention *a = f->a;
  struct xf_tile t = {.a = a, .sequence = a->sequences, .group = a->q_heads / a->kv_heads};
  size_t blocks, q_blocks;
  for (;; t.sequence++) {
    blocks = by_block ? k_blocks_of(t.sequence) : 1;
    q_blocks = q_blocks_of(a, t.sequence);
    size_t tasks = a->kv_heads * q_blocks * blocks;
    if (*task < tasks) break;
    *task -= tasks;
  }
  size_t q_block = q_block_of(a, t.sequence), index = *task / blocks;
  *task %= blocks;
  /* Late q-blocks see the most keys: they go first, so that threads end together. */
  t.q0 = (q_blocks - 1 - index / a->kv_heads) * q_block;
  t.head = index % a->kv_heads;
  t.rows = xf_min(q_block, t.sequence->q_len - t.q0) * t.group;
  return t;
}

static size_t count_tasks(const struct xf_attention *a, bool by_block)
{
  size_t tasks = 0;
  for (size_t i = 0; i < a->n; i++) {
    const struct xf_attention_sequence *s = &a->sequences[i];
    tasks += a->kv_heads * q_blocks_of(a, s) * (by_block ? k_blocks_of(s) : 1);
  }
  return tasks;
}

static void whole_task(void *arg, size_t slot, size_t task)
{
  const struct flash *f = arg;
  struct xf_tile t = find_tile(f, &task, false);
  float *state;
  struct xf_tile_scratch scratch = scratch_of(f, slot, &state);
  memset(state, 0, 2 * t.rows * sizeof *state);
  size_t keys = xf_tile_visible(&t, t.rows - 1);
  for (size_t block = 0; block * XF_BLOCK < keys; block++)
    tile_block(f, &t, block, &scratch, state);
  for (size_t r = 0; r < t.rows; r++)
    xf_tile_finish(f->context, &t, r, state[2 * r], state[2 * r + 1]);
}

static void split_task(void *arg, size_t slot, size_t task)
{
  const struct flash *f = arg;
  struct xf_tile t = find_tile(f, &task, true);
  float *state;
  struct xf_tile_scratch scratch = scratch_of(f, slot, &state);
  tile_block(f, &t, task, &scratch, state);
}

static void merge_task(void *arg, size_t slot, size_t task)
{
  (void)slot;
  const struct flash *f = arg;
  struct xf_tile t = find_tile(f, &task, false);
  for (size_t r = 0; r < t.rows; r++) {
    float m = 0, l = 0;
    for (size_t block = 0; block < k_blocks_of(t.sequence); block++) {
      const float *record = record_of(f, &t, r, block);
      f->context->kernels->attention_merge(f->a->kv.d_v, &m, &l, xf_tile_out(&t, r), record[0],
                                           record[1], record + 2);
    }
    xf_tile_finish(f->context, &t, r, m, l);
  }
}

static bool splits(const xf_context *context, const struct xf_attention *a)
{
  if (a->split != XF_KEYS_AUTO) return a->split == XF_KEYS_SPLIT;
  size_t wanted = (size_t)context->threads * TASKS_A_THREAD, tasks = count_tasks(a, false);
  return context->threads > 1 && tasks < wanted && count_tasks(a, true) > tasks;
}

size_t xf_attention_workspace(const xf_context *context, const struct xf_attention *a)
{
  size_t floats = context->threads * slot_floats(a);
  if (splits(context, a)) floats += records_before(a, a->sequences + a->n) * record_floats(a);
  return floats;
}

void xf_attention_flash(const xf_context *context, const struct xf_attention *a, float *workspace)
{
  struct flash f = {.context = context,
                    .a = a,
                    .split = splits(context, a),
                    .workspace = workspace,
                    .slot_floats = slot_floats(a)};
  if (!f.split) {
    xf_parallel(context, count_tasks(a, false), whole_task, &f);
    return;
  }
  xf_parallel(context, count_tasks(a, true), split_task, &f);
  xf_parallel(context, count_tasks(a, false), merge_task, &f);
}
