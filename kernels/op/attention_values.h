/* Flash attention's values: acc = p · v of one block of keys. */
#ifndef XF_OP_ATTENTION_VALUES_H
#define XF_OP_ATTENTION_VALUES_H

#include "kernels/op/vector.h"

/* tile_values for one type of V. */
typedef void (*values_function)(size_t rows, size_t panels, const struct value_tile *t);

XF_APART void values_f32(size_t rows, size_t panels, const struct value_tile *t)
{
  tile_values(XF_F32, false, rows, panels, t);
}

XF_APART void values_f32_asking(size_t rows, size_t panels, const struct value_tile *t)
{
  tile_values(XF_F32, true, rows, panels, t);
}

XF_APART void values_f16(size_t rows, size_t panels, const struct value_tile *t)
{
  tile_values(XF_F16, false, rows, panels, t);
}

XF_APART void values_f16_asking(size_t rows, size_t panels, const struct value_tile *t)
{
  tile_values(XF_F16, true, rows, panels, t);
}

XF_APART void values_bf16(size_t rows, size_t panels, const struct value_tile *t)
{
  tile_values(XF_BF16, false, rows, panels, t);
}

XF_APART void values_bf16_asking(size_t rows, size_t panels, const struct value_tile *t)
{
  tile_values(XF_BF16, true, rows, panels, t);
}

XF_APART void values_i8(size_t rows, size_t panels, const struct value_tile *t)
{
  tile_values(XF_I8, false, rows, panels, t);
}

XF_APART void values_i8_asking(size_t rows, size_t panels, const struct value_tile *t)
{
  tile_values(XF_I8, true, rows, panels, t);
}

/* By xf_type; [1]: asking for what comes next. */
static const values_function values_of[][2] = {[XF_F32] = {values_f32, values_f32_asking},
                                               [XF_F16] = {values_f16, values_f16_asking},
                                               [XF_BF16] = {values_bf16, values_bf16_asking},
                                               [XF_I8] = {values_i8, values_i8_asking}};

static size_t most(const size_t *keys, size_t rows)
{
  size_t n = 0;
  for (size_t r = 0; r < rows; r++) n = keys[r] > n ? keys[r] : n;
  return n;
}

static size_t least(const size_t *keys, size_t rows)
{
  size_t n = keys[0];
  for (size_t r = 1; r < rows; r++) n = keys[r] < n ? keys[r] : n;
  return n;
}

/* How many panels of V are taken at a time, 0 for all: where the rows of one query, of up to eight
 * heads, are the first to read it, memory limits. If several tiles read it one after the other, few
 * panels stay in the first cache until each has, and meanwhile the next ones arrive. */
static size_t value_piece(const struct xf_attention_args *a)
{
  if (!a->fresh || a->rows > 8) return 0;
  bool once = tile_value_rows(a->rows) == a->rows && a->d_v <= TILE_VALUE_PANELS * XF_LANES;
  return once ? 0 : a->type == XF_I8 ? 4 : 1;
}

/* Whether what comes next is asked for only in the second cache, since the first can wait for fewer
 * lines. Tiles of narrow types, which need fewer lines a step, ignore it. */
static bool asks_far(const struct xf_attention_args *a)
{
  return a->far && !a->k_stride;
}

/* acc of rows r … r + rows − 1 continues over keys [from, to), all of its columns. */
static void attention_values_range(const struct xf_attention_args *a, size_t r, size_t rows,
                                   size_t from, size_t to, bool resume)
{
  if (from >= to) return;
  size_t ld = (a->d_v + XF_LANES - 1) / XF_LANES * XF_LANES;
  struct value_tile t = {.p = a->s + r * a->lds,
                         .ldp = a->lds,
                         .v = a->v,
                         .panels =
                             a->fresh ? (most(a->visible, a->rows) + XF_LANES - 1) / XF_LANES : 0,
                         .v_stride = a->v_stride,
                         .from = from,
                         .to = to,
                         .ld = ld,
                         .resume = resume,
                         .ahead = a->far ? XF_LANES * a->v_stride * element_size(a->type) : 0,
                         .far = asks_far(a),
                         .piece = value_piece(a)};
  values_function values = values_of[a->type][a->fresh];
  for (size_t panels; t.column < ld; t.column += panels * XF_LANES) {
    panels = ld - t.column >= TILE_VALUE_PANELS * XF_LANES ? TILE_VALUE_PANELS : 1;
    t.acc = a->acc + r * ld + t.column;
    values(rows, panels, &t);
  }
}

/* The same of rows that see the same keys: all rows, where V is taken in pieces. */
static void attention_values_together(const struct xf_attention_args *a, size_t r, size_t rows,
                                      size_t from, size_t to, bool resume)
{
  const size_t piece = value_piece(a) * XF_LANES;
  if (!piece) {
    attention_values_range(a, r, rows, from, to, resume);
    return;
  }
  for (size_t j = from, end; j < to; j = end) {
    end = j - j % piece + piece;
    end = end < to ? end : to;
    for (size_t i = 0, n; i < rows; i += n) {
      n = tile_value_rows(rows - i);
      attention_values_range(a, r + i, n, j, end, resume || j > from);
    }
  }
}

/* acc = p · v of a few rows: together over the keys that each of them sees, and each row alone over
 * those before and behind. A key that a row does not see is never multiplied: 0 · NaN would leak,
 * and −0 + 0 would lose a sign. */
static void attention_values(const struct xf_attention_args *a, size_t r, size_t rows,
                             const size_t *first)
{
  size_t ld = (a->d_v + XF_LANES - 1) / XF_LANES * XF_LANES;
  size_t from = most(first, rows), to = least(a->visible + r, rows);
  bool apart = from >= to, early = least(first, rows) < from;
  for (size_t i = 0; i < rows; i++) {
    size_t end = apart ? a->visible[r + i] : from;
    if (early && !apart) memset(a->acc + (r + i) * ld, 0, ld * sizeof *a->acc);
    attention_values_range(a, r + i, 1, first[i], end, false);
  }
  if (apart) return;
  attention_values_together(a, r, rows, from, to, early);
  for (size_t i = 0; i < rows; i++)
    attention_values_range(a, r + i, 1, to, a->visible[r + i], true);
}

/* ---- the same where the bias may mask keys ---- */

static bool sees(const struct xf_attention_args *a, size_t r, size_t first, size_t key)
{
  return key >= first && key < a->visible[r] && a->bias[r * a->ldb + key] != -INFINITY;
}

static size_t count_seeing(const struct xf_attention_args *a, size_t r, size_t rows,
                           const size_t *first, size_t key)
{
  size_t n = 0;
  for (size_t i = 0; i < rows; i++) n += sees(a, r + i, first[i], key);
  return n;
}

/* Each row alone over those keys of [from, to) that it sees. */
static void attention_values_apart(const struct xf_attention_args *a, size_t r, size_t rows,
                                   const size_t *first, size_t from, size_t to)
{
  for (size_t i = 0; i < rows; i++) {
    for (size_t j = from, end; j < to; j = end) {
      bool seen = sees(a, r + i, first[i], j);
      for (end = j + 1; end < to && sees(a, r + i, first[i], end) == seen;) end++;
      if (seen) attention_values_range(a, r + i, 1, j, end, true);
    }
  }
}

static void attention_values_masked(const struct xf_attention_args *a, size_t r, size_t rows,
                                    const size_t *first)
{
  size_t ld = (a->d_v + XF_LANES - 1) / XF_LANES * XF_LANES;
  memset(a->acc + r * ld, 0, rows * ld * sizeof *a->acc);
  size_t last = most(a->visible + r, rows);
  for (size_t j = least(first, rows), end; j < last; j = end) {
    bool all = count_seeing(a, r, rows, first, j) == rows;
    for (end = j + 1; end < last && (count_seeing(a, r, rows, first, end) == rows) == all;) end++;
    if (all)
      attention_values_together(a, r, rows, j, end, true);
    else
      attention_values_apart(a, r, rows, first, j, end);
  }
}

#endif
