/* Flash attention over one block of keys, and the merge of blocks.
 * Source: Dao et al. 2022, "FlashAttention"; Milakov & Gimelshein 2018, "Online normalizer
 * calculation for softmax"; order of operations: docs/numerics.md. */
#ifndef XF_OP_ATTENTION_H
#define XF_OP_ATTENTION_H

#include "kernels/op/attention_values.h"

static void pack_panel(size_t d, const float *const *rows, float *panel)
{
  size_t j = 0;
  for (; j + XF_LANES <= d; j += XF_LANES) tile_transpose(rows, j, panel + j * XF_LANES);
  for (; j < d; j++)
    for (size_t i = 0; i < XF_LANES; i++) panel[j * XF_LANES + i] = rows[i][j];
}

static void dot_i8(size_t rows, size_t panels, const struct dot_tile *t)
{
  tile_dot(XF_I8, ASKS_NOTHING, rows, panels, t);
}

static void dot_i8_asking(size_t rows, size_t panels, const struct dot_tile *t)
{
  tile_dot(XF_I8, ASKS_NEXT, rows, panels, t);
}

/* Tiles by xf_type of K; [1]: asking for what comes next. */
static const dot_function dots_of[][2] = {[XF_F32] = {dot_f32, dot_f32_asking},
                                          [XF_F16] = {dot_f16, dot_f16_asking},
                                          [XF_BF16] = {dot_bf16, dot_bf16_asking},
                                          [XF_I8] = {dot_i8, dot_i8_asking}};

/* What rows r … r + rows − 1 ask for while panels p … of K are at work: their share of those some
 * way behind them and, past the last, of the first values. */
static struct asking score_asking(const struct xf_attention_args *a, size_t p, size_t panels,
                                  size_t all, size_t r, size_t rows)
{
  const size_t row = XF_LANES * element_size(a->type), panel = a->d_k * row;
  const size_t ahead = p + panels - 1 + (ASKED_BYTES + panel - 1) / panel;
  if (a->k_stride || ahead >= 2 * all) return (struct asking){0};
  uintptr_t at = (uintptr_t)(ahead < all ? a->k[ahead] : a->v[ahead - all]);
  struct asking share = asking_share(at, panel, a->d_k, row, r, rows, a->rows);
  share.far = asks_far(a);
  return share;
}

static void ask_for(const char *row, size_t bytes)
{
  for (size_t i = 0; i < bytes; i += 64) __builtin_prefetch(row + i, 0, 2);
}

/* Panel p, packed to `out` as floats, of keys that lie as rows; lanes behind the last of `keys` are
 * zeros. Where rows lie apart prefetchers do not follow: the next panel's are asked for. */
static void pack_keys(const struct xf_attention_args *a, size_t p, size_t keys, float *out)
{
  static const float nothing[XF_HEAD_DIM_MAX];
  const size_t size = element_size(a->type), stride = a->k_stride * size;
  const bool apart = a->k_stride > a->d_k;
  float wide[XF_LANES][XF_HEAD_DIM_MAX];
  const float *rows[XF_LANES];
  for (size_t i = 0; i < XF_LANES; i++) {
    const char *row = (const char *)a->k[p] + i * stride;
    if (apart && p * XF_LANES + i + XF_LANES < keys)
      ask_for(row + XF_LANES * stride, a->d_k * size);
    rows[i] = wide[i];
    if (p * XF_LANES + i >= keys)
      rows[i] = nothing;
    else if (a->type == XF_F32)
      rows[i] = (const float *)(const void *)row;
    else
      (a->type == XF_F16 ? widen_f16 : widen_bf16)(a->d_k, (const void *)row, wide[i]);
  }
  pack_panel(a->d_k, rows, out);
}

/* The fewer panels at once, the nearer they stay where keys are packed as they are used. */
static size_t score_panels(const struct xf_attention_args *a)
{
  const xf_type type = a->k_stride ? XF_F32 : a->type; /* as tiles read K */
  size_t wide = tile_panels(TILE_ROWS);
  if (a->rows <= TILE_ROWS) wide = tile_stream_panels(type, tile_rows(a->rows));
  return a->k_stride && wide > XF_NEAR_PANELS ? XF_NEAR_PANELS : wide;
}

/* s = q · kᵀ over whole panels; what lies outside a row's visible keys is not used. */
static void attention_scores(const struct xf_attention_args *a)
{
  size_t keys = most(a->visible, a->rows), all = (keys + XF_LANES - 1) / XF_LANES;
  dot_function dot = a->k_stride ? dot_f32 : dots_of[a->type][a->fresh];
  size_t wide = score_panels(a);
  for (size_t p = 0, panels; p < all; p += panels) {
    panels = all - p >= wide ? wide : all - p >= TILE_FEW_PANELS ? TILE_FEW_PANELS : 1;
    const void *k[TILE_PANELS_MAX];
    for (size_t i = 0; i < panels; i++) {
      float *near = a->packed + i * a->d_k * XF_LANES;
      if (a->k_stride) pack_keys(a, p + i, keys, near);
      k[i] = a->k_stride ? near : a->k[p + i];
    }
    struct dot_tile t = {.ldx = a->d_k, .w = k, .k = a->d_k, .ldy = a->lds};
    for (size_t r = 0, rows; r < a->rows; r += rows) {
      rows = tile_rows(a->rows - r);
      if (most(a->visible + r, rows) <= p * XF_LANES) continue;
      if (a->fresh) t.next = score_asking(a, p, panels, all, r, rows);
      t.x = a->q + r * a->d_k;
      t.y = a->s + r * a->lds + p * XF_LANES;
      dot(rows, panels, &t);
    }
  }
}

/* Replaces scores s[0 … n−1], n a multiple of 16, by soft_cap · tanh(s · (scale / soft_cap)). */
XF_APART void soft_cap_row(float *s, size_t n, float scale, float soft_cap)
{
  const v16 ratio = v16_set1(scale / soft_cap), cap = v16_set1(soft_cap);
  for (size_t i = 0; i < n; i += XF_LANES)
    v16_store(s + i, v16_mul(cap, v16_tanh(v16_mul(v16_load(s + i), ratio))));
}

/* fma(s, scale, bias), not below −2¹²⁶ but where it is −inf: masks of the most negative float are
 * common, and its product with log2 e would overflow. A masked key's is −inf whatever its K holds.
 */
XF_INLINE v16 biased_v16(v16 s, v16 scale, v16 bias)
{
  v16 t = v16_fma(s, scale, bias);
  t = v16_keep_masked(v16_max(v16_set1(-0x1p126f), t), t);
  return v16_keep_masked(t, bias);
}

/* Replaces scores s[0 … n−1] by the biased ones. */
XF_APART void bias_row(float *s, size_t n, float scale, const float *bias)
{
  const v16 factor = v16_set1(scale);
  size_t i = 0;
  for (; i + XF_LANES <= n; i += XF_LANES)
    v16_store(s + i, biased_v16(v16_load(s + i), factor, v16_load(bias + i)));
  if (i < n) v16_store(s + i, biased_v16(v16_load(s + i), factor, v16_load_n(bias + i, n - i)));
}

/* Replaces a row's scores from a multiple of 16 on by the adjusted ones. */
static void attention_adjust_row(const struct xf_attention_args *a, size_t r, size_t from)
{
  if (a->visible[r] <= from) return;
  float *s = a->s + r * a->lds + from;
  size_t n = a->visible[r] - from;
  size_t whole = (n + XF_LANES - 1) / XF_LANES * XF_LANES;
  if (a->soft_cap != 0) soft_cap_row(s, whole, a->scale, a->soft_cap);
  if (a->bias) bias_row(s, n, a->soft_cap != 0 ? 1.0f : a->scale, a->bias + r * a->ldb + from);
}

/* A row's scores as softmax takes them: adjusted, from a multiple of 64 on, so that every key keeps
 * its place in the row sum; keys before the first visible one count as −inf. */
struct score_row {
  float *s;
  size_t n;
  float top; /* the greatest */
};

static struct score_row attention_score_row(const struct xf_attention_args *a, size_t r,
                                            size_t first)
{
  size_t from = first / 64 * 64;
  struct score_row row = {.s = a->s + r * a->lds + from};
  attention_adjust_row(a, r, from);
  for (size_t i = from; i < first; i++) row.s[i - from] = -INFINITY;
  if (a->visible[r] > first) row.n = a->visible[r] - from;
  row.top = tile_row_max(row.s, row.n);
  return row;
}

/* Scores become p. The maxima of some rows are found first: what a row does next waits for its
 * maximum, and a CPU can then begin with several rows. */
static void attention_softmax(const struct xf_attention_args *a, const size_t *first)
{
  enum { TOGETHER = 8 };
  for (size_t r0 = 0; r0 < a->rows; r0 += TOGETHER) {
    size_t rows = a->rows - r0 < TOGETHER ? a->rows - r0 : TOGETHER;
    struct score_row row[TOGETHER];
    for (size_t i = 0; i < rows; i++) row[i] = attention_score_row(a, r0 + i, first[r0 + i]);
    for (size_t i = 0; i < rows; i++)
      tile_softmax(row[i].s, row[i].n, row[i].top, a->c, &a->m[r0 + i], &a->l[r0 + i]);
  }
}

static void attention_block(const struct xf_attention_args *a)
{
  static const size_t zeros[XF_ATTENTION_ROWS];
  const size_t *first = a->first ? a->first : zeros;
  attention_scores(a);
  attention_softmax(a, first);
  for (size_t r = 0, rows; r < a->rows; r += rows) {
    rows = value_piece(a) ? a->rows : tile_value_rows(a->rows - r);
    (a->bias ? attention_values_masked : attention_values)(a, r, rows, first + r);
  }
}

static void attention_merge(size_t d_v, float *m, float *l, float *acc, float m_b, float l_b,
                            const float *acc_b)
{
  if (l_b == 0) return;
  if (*l == 0) {
    *m = m_b, *l = l_b;
    memcpy(acc, acc_b, d_v * sizeof *acc);
    return;
  }
  float top = xf_max(*m, m_b);
  float w_a = exp2_f32(*m - top), w_b = exp2_f32(m_b - top);
  *m = top;
  *l = fmaf(l_b, w_b, *l * w_a);
  const v16 old = v16_set1(w_a), new = v16_set1(w_b);
  size_t i = 0;
  for (; i + XF_LANES <= d_v; i += XF_LANES) {
    v16 scaled = v16_mul(v16_load(acc + i), old);
    v16_store(acc + i, v16_fma(v16_load(acc_b + i), new, scaled));
  }
  if (i == d_v) return;
  v16 scaled = v16_mul(v16_load_n(acc + i, d_v - i), old);
  v16_store_n(acc + i, d_v - i, v16_fma(v16_load_n(acc_b + i, d_v - i), new, scaled));
}

static void attention_finish(size_t d_v, float l, const float *acc, float *out)
{
  if (l == 0) {
    memset(out, 0, d_v * sizeof *out);
    return;
  }
  const v16 inverse = v16_set1(1.0f / l);
  size_t i = 0;
  for (; i + XF_LANES <= d_v; i += XF_LANES)
    v16_store(out + i, v16_mul(v16_load(acc + i), inverse));
  if (i < d_v) v16_store_n(out + i, d_v - i, v16_mul(v16_load_n(acc + i, d_v - i), inverse));
}

static float log_sum_exp(float m, float l)
{
  if (l == 0) return -INFINITY;
  return fmaf(m, 0x1.62e43p-1f, XF_SLEEF(logf1_u10purecfma)(l));
}

#endif
