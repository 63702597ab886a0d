#include <string.h>

#include "dispatch/attention_tile.h"
#include "dispatch/memory.h"

enum {
  TASKS_A_WORKER = 4,
  MOST_SHRINK = 12,  /* halvings that make any q-block of the policy 1 */
  SPLIT_QUERIES = 32 /* most queries of a sequence whose keys are split by need: see splits() */
};

/* The adaptive policy: longer sequences amortise a block of K and V over more queries, short ones
 * need the tasks. */
static const struct {
  size_t below, q_block;
} policy[XF_Q_BLOCK_CLASSES] = {{192, 32}, {768, 64}, {SIZE_MAX, 256}};

size_t xf_attention_q_block(const uint32_t *tuned, size_t kv_len)
{
  size_t i = 0;
  while (kv_len >= policy[i].below) i++;
  return tuned && tuned[i] ? tuned[i] : policy[i].q_block;
}

/* The policy's choice is halved `shrink` times, as long as a task fills the rows of a tile. */
static size_t q_block_of(const struct xf_attention *a, size_t q_len, size_t kv_len, unsigned shrink)
{
  if (a->q_block) return xf_min(a->q_block, q_len);
  size_t group = a->q_heads / a->kv_heads, least = (XF_ATTENTION_ROWS + group - 1) / group;
  size_t q_block = xf_attention_q_block(a->q_blocks, kv_len) >> shrink;
  return xf_min(q_block < least ? least : q_block, q_len);
}

static size_t ceil_div(size_t n, size_t by)
{
  return by ? (n + by - 1) / by : 0;
}

static void size_add(struct xf_attention_size *size, const struct xf_attention *a, size_t q_len,
                     size_t kv_len, unsigned shrink)
{
  size_t q_block = q_block_of(a, q_len, kv_len, shrink), blocks = ceil_div(kv_len, XF_BLOCK);
  size_t tasks = a->kv_heads * ceil_div(q_len, q_block);
  size->q_block = q_block > size->q_block ? q_block : size->q_block;
  size->tasks += tasks;
  size->block_tasks += tasks * blocks;
  size->records += a->q_heads * q_len * blocks;
  size->q_len = q_len > size->q_len ? q_len : size->q_len;
}

void xf_attention_size_add(struct xf_attention_size *size, const struct xf_attention *a,
                           size_t q_len, size_t kv_len)
{
  size_add(size, a, q_len, kv_len, 0);
}

static struct xf_attention_size size_of(const struct xf_attention *a, unsigned shrink)
{
  struct xf_attention_size size = {0};
  for (size_t i = 0; i < a->n; i++)
    size_add(&size, a, a->sequences[i].q_len, a->sequences[i].kv_len, shrink);
  return size;
}

struct flash {
  const xf_context *context;
  const struct xf_attention *a;
  size_t workers;
  struct xf_attention_size size;
  unsigned shrink;  /* of q-blocks */
  bool split;       /* a task is one block of keys, too */
  float *workspace; /* scratch of each worker, then the records */
  size_t worker_floats;
};

/* What a task works on. */
struct task {
  struct xf_tile tile;
  size_t block;   /* of keys, where keys are split */
  float *records; /* the first of the tile's sequence, likewise */
  bool only;      /* no other block has keys that the tile sees: its partials are the result */
};

/* A record is one row's partial over one block of keys, m, l and acc, where tasks split the keys.
 */
static size_t record_floats(const struct xf_attention *a)
{
  return 2 + xf_padded(a->kv.d_v);
}

static float *record_of(const struct task *task, size_t r, size_t block)
{
  const struct xf_tile *t = &task->tile;
  size_t head = t->head * t->group + r % t->group, token = t->q0 + r / t->group;
  size_t row = head * t->sequence->q_len + token;
  size_t index = row * ceil_div(t->sequence->kv_len, XF_BLOCK) + block;
  return task->records + index * record_floats(t->a);
}

/* Scores, m and l of every row of a q-block, and the rest of a scratch. */
static size_t worker_floats(const struct xf_attention *a, const struct xf_attention_size *size)
{
  size_t rows = size->q_block * (a->q_heads / a->kv_heads);
  return XF_ATTENTION_ROWS * XF_BLOCK + xf_round_up(2 * rows, XF_LANES) + xf_tile_floats(a, rows);
}

static void scratch_of(const struct flash *f, size_t worker, float **state,
                       struct xf_tile_scratch *scratch)
{
  float *base = f->workspace + worker * f->worker_floats;
  size_t rows = f->size.q_block * (f->a->q_heads / f->a->kv_heads);
  *state = base + XF_ATTENTION_ROWS * XF_BLOCK;
  xf_tile_scratch_at(f->a, *state + xf_round_up(2 * rows, XF_LANES), scratch);
  scratch->s = base;
  scratch->lds = XF_BLOCK;
}

/* What becomes of row r's partial over a block: the result, a record, or part of out and the state.
 */
static void keep_partial(const struct flash *f, const struct task *task, size_t r, float m, float l,
                         float *acc, float *state)
{
  size_t d_v = f->a->kv.d_v;
  if (task->only) {
    xf_tile_finish(f->context, &task->tile, r, m, l, acc);
    return;
  }
  if (!f->split) {
    f->context->kernels->attention_merge(d_v, &state[2 * r], &state[2 * r + 1],
                                         xf_tile_out(&task->tile, r), m, l, acc);
    return;
  }
  float *record = record_of(task, r, task->block);
  record[0] = m, record[1] = l;
  if (l != 0) memcpy(record + 2, acc, d_v * sizeof *acc);
}

/* All rows of the task's tile over its block of keys. */
static void tile_block(const struct flash *f, const struct task *task,
                       const struct xf_tile_scratch *scratch, float *state)
{
  const struct xf_tile *t = &task->tile;
  const void *k[XF_BLOCK_PANELS], *v[XF_BLOCK_PANELS];
  size_t first = task->block * XF_BLOCK, n = xf_min(XF_BLOCK, t->sequence->kv_len - first);
  struct xf_keys keys;
  xf_tile_keys(f->context, t, first, n, scratch, k, v, &keys);
  for (size_t r0 = 0; r0 < t->rows; r0 += XF_ATTENTION_ROWS) {
    size_t rows = xf_min(XF_ATTENTION_ROWS, t->rows - r0);
    struct xf_partials partials;
    xf_tile_partial(f->context, t, r0, rows, &keys, scratch, &partials);
    for (size_t i = 0; i < rows; i++)
      keep_partial(f, task, r0 + i, partials.m[i], partials.l[i],
                   scratch->acc + i * xf_padded(f->a->kv.d_v), state);
  }
}

/* The index-th task of all; by_block: a task is one block of keys of a tile. */
static void find_task(const struct flash *f, size_t index, bool by_block, struct task *task)
{
  const struct xf_attention *a = f->a;
  struct xf_tile *t = &task->tile;
  struct xf_attention_size size = f->size; /* of the only sequence, or else of each */
  t->a = a;
  t->sequence = a->sequences;
  t->group = a->q_heads / a->kv_heads;
  task->records = f->workspace + f->workers * f->worker_floats;
  for (; a->n > 1; t->sequence++) {
    size = (struct xf_attention_size){0};
    size_add(&size, a, t->sequence->q_len, t->sequence->kv_len, f->shrink);
    size_t tasks = by_block ? size.block_tasks : size.tasks;
    if (index < tasks) break;
    index -= tasks;
    task->records += size.records * record_floats(a);
  }
  size_t blocks = by_block ? ceil_div(t->sequence->kv_len, XF_BLOCK) : 1, tile = index / blocks;
  /* Late q-blocks see the most keys: they go first, so that threads end together. */
  size_t q_blocks = size.tasks / a->kv_heads, from_end = tile / a->kv_heads;
  t->q0 = (q_blocks - 1 - from_end) * size.q_block;
  t->head = tile - from_end * a->kv_heads;
  t->rows = xf_min(size.q_block, t->sequence->q_len - t->q0) * t->group;
  task->block = index - tile * blocks;
  task->only = false;
}

/* The blocks with keys that any row of the tile sees: begin … end − 1. */
static struct xf_range tile_blocks(const struct xf_tile *t)
{
  struct xf_range all = {SIZE_MAX, 0};
  for (size_t r = 0; r < t->rows; r += t->group) {
    struct xf_range range = xf_tile_range(t, r);
    if (range.begin == range.end) continue;
    all.begin = xf_min(all.begin, range.begin / XF_BLOCK);
    all.end = range.end > all.end ? range.end : all.end;
  }
  all.end = ceil_div(all.end, XF_BLOCK);
  all.begin = xf_min(all.begin, all.end); /* nothing is seen */
  return all;
}

static void whole_task(const struct flash *f, size_t worker, size_t index)
{
  struct task task;
  find_task(f, index, false, &task);
  const struct xf_tile *t = &task.tile;
  float *state;
  struct xf_tile_scratch scratch;
  scratch_of(f, worker, &state, &scratch);
  memset(state, 0, 2 * t->rows * sizeof *state);
  struct xf_range blocks = tile_blocks(t);
  task.only = blocks.end == blocks.begin + 1;
  for (task.block = blocks.begin; task.block < blocks.end; task.block++)
    tile_block(f, &task, &scratch, state);
  for (size_t r = 0; r < t->rows && !task.only; r++)
    xf_tile_finish(f->context, t, r, state[2 * r], state[2 * r + 1], xf_tile_out(t, r));
}

static void split_task(const struct flash *f, size_t worker, size_t index)
{
  struct task task;
  find_task(f, index, true, &task);
  struct xf_range blocks = tile_blocks(&task.tile);
  if (task.block < blocks.begin || task.block >= blocks.end) return; /* merge_task skips it, too */
  float *state;
  struct xf_tile_scratch scratch;
  scratch_of(f, worker, &state, &scratch);
  tile_block(f, &task, &scratch, state);
}

static void merge_task(const struct flash *f, size_t index)
{
  struct task task;
  find_task(f, index, false, &task);
  const struct xf_tile *t = &task.tile;
  struct xf_range blocks = tile_blocks(t);
  for (size_t r = 0; r < t->rows; r++) {
    float m = 0, l = 0;
    for (size_t block = blocks.begin; block < blocks.end; block++) {
      const float *record = record_of(&task, r, block);
      f->context->kernels->attention_merge(f->a->kv.d_v, &m, &l, xf_tile_out(t, r), record[0],
                                           record[1], record + 2);
    }
    xf_tile_finish(f->context, t, r, m, l, xf_tile_out(t, r));
  }
}

/* Phase 0: whole tiles, or their blocks where keys are split; phase 1: the merge of blocks. */
static void phase_0_task(void *arg, size_t worker, size_t task)
{
  const struct flash *f = arg;
  (f->split ? split_task : whole_task)(f, worker, task);
}

static void phase_1_task(void *arg, size_t worker, size_t task)
{
  (void)worker;
  merge_task(arg, task);
}

static size_t phase_tasks(const struct flash *f, int phase)
{
  if (phase == 0) return f->split ? f->size.block_tasks : f->size.tasks;
  return f->split ? f->size.tasks : 0;
}

/* By need only a few queries' keys are split: the records of a long prefill would take memory that
 * grows with its square. It gets smaller q-blocks instead. */
static bool splits(const struct xf_attention *a, const struct xf_attention_size *size,
                   size_t workers)
{
  if (a->split != XF_KEYS_AUTO) return a->split == XF_KEYS_SPLIT;
  return workers > 1 && size->q_len <= SPLIT_QUERIES && size->block_tasks > size->tasks &&
         size->tasks < workers * TASKS_A_WORKER;
}

size_t xf_attention_size_floats(const struct xf_attention_size *size, const struct xf_attention *a,
                                size_t workers)
{
  size_t floats = workers * worker_floats(a, size);
  if (splits(a, size, workers)) floats += size->records * record_floats(a);
  return floats;
}

size_t xf_attention_workspace_floats(const struct xf_attention *a, size_t workers)
{
  struct xf_attention_size size = size_of(a, 0);
  return xf_attention_size_floats(&size, a, workers);
}

static struct flash flash_of(const xf_context *context, const struct xf_attention *a,
                             float *workspace, size_t workers)
{
  struct flash f = {.context = context, .a = a, .workers = workers, .workspace = workspace};
  f.size = size_of(a, 0);
  f.split = splits(a, &f.size, workers);
  f.worker_floats = worker_floats(a, &f.size);
  while (!f.split && workers > 1 && f.size.q_len > 1 && f.shrink < MOST_SHRINK &&
         f.size.tasks < workers * TASKS_A_WORKER)
    f.size = size_of(a, ++f.shrink);
  return f;
}

void xf_attention_flash(const xf_context *context, const struct xf_attention *a, float *workspace)
{
  struct flash f = flash_of(context, a, workspace, context->threads);
  xf_parallel(context, phase_tasks(&f, 0), phase_0_task, &f);
  xf_parallel(context, phase_tasks(&f, 1), phase_1_task, &f);
}

/* A host's worker takes every nth task. */
struct share {
  struct flash *f;
  size_t ith, nth;
  int phase;
};

static void share_task(void *arg, size_t slot, size_t item)
{
  (void)slot, (void)item;
  const struct share *share = arg;
  size_t tasks = phase_tasks(share->f, share->phase);
  for (size_t task = share->ith; task < tasks; task += share->nth)
    (share->phase == 0 ? phase_0_task : phase_1_task)(share->f, share->ith, task);
}

void xf_attention_flash_part(const xf_context *context, const struct xf_attention *a,
                             float *workspace, int phase, size_t ith, size_t nth)
{
  struct flash f = flash_of(context, a, workspace, nth);
  struct share share = {&f, ith, nth, phase};
  xf_parallel(context, 1, share_task, &share);
}
