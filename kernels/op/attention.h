/* Flash attention over one block of keys, and the merge of blocks.
 * Source: Dao et al. 2022, "FlashAttention"; Milakov & Gimelshein 2018, "Online normalizer
 * calculation for softmax"; order of operations: docs/numerics.md. */
#ifndef XF_OP_ATTENTION_H
#define XF_OP_ATTENTION_H

static size_t most_visible(const size_t *visible, size_t rows)
{
  size_t most = 0;
  for (size_t r = 0; r < rows; r++) most = visible[r] > most ? visible[r] : most;
  return most;
}

static size_t least_visible(const size_t *visible, size_t rows)
{
  size_t least = visible[0];
  for (size_t r = 1; r < rows; r++) least = visible[r] < least ? visible[r] : least;
  return least;
}

/* s = q · kᵀ over whole panels; what lies past a row's visible keys is not used. */
static void attention_scores(const struct xf_attention_args *a)
{
  size_t all = (most_visible(a->visible, a->rows) + XF_LANES - 1) / XF_LANES;
  size_t wide = tile_panels(tile_rows(a->rows));
  for (size_t p = 0, panels; p < all; p += panels) {
    panels = all - p >= wide ? wide : 1;
    const void *k[TILE_PANELS_MAX];
    for (size_t i = 0; i < panels; i++) k[i] = a->k[p + i];
    for (size_t r = 0, rows; r < a->rows; r += rows) {
      rows = tile_rows(a->rows - r);
      if (most_visible(a->visible + r, rows) <= p * XF_LANES) continue;
      dot_f32(rows, panels, a->q + r * a->d_k, a->d_k, k, a->d_k, a->s + r * a->lds + p * XF_LANES,
              a->lds, false);
    }
  }
}

/* Rows r … r + rows − 1 of acc = p · v: all rows over the keys that each of them sees, then each
 * row alone over the rest of its own, so that a masked key is never multiplied (0 · NaN would
 * leak). */
static void attention_values_tile(const struct xf_attention_args *a, size_t r, size_t rows)
{
  size_t ld = (a->d_v + XF_LANES - 1) / XF_LANES * XF_LANES;
  size_t common = least_visible(a->visible + r, rows);
  struct value_tile t = {.ldp = a->lds, .v = a->v, .v_stride = a->v_stride, .ld = ld};
  for (size_t panels; t.column < ld; t.column += panels * XF_LANES) {
    panels = ld - t.column >= TILE_VALUE_PANELS * XF_LANES ? TILE_VALUE_PANELS : 1;
    if (common > 0) {
      t.from = 0, t.to = common, t.resume = false;
      t.p = a->s + r * a->lds, t.acc = a->acc + r * ld + t.column;
      tile_values(rows, panels, &t);
    }
    t.from = common, t.resume = common > 0;
    for (size_t i = r; i < r + rows; i++) {
      if (a->visible[i] == common) continue;
      t.to = a->visible[i], t.p = a->s + i * a->lds, t.acc = a->acc + i * ld + t.column;
      tile_values(1, panels, &t);
    }
  }
}

static void attention_block(const struct xf_attention_args *a)
{
  attention_scores(a);
  for (size_t r = 0; r < a->rows; r++)
    tile_softmax(a->s + r * a->lds, a->visible[r], a->c, &a->m[r], &a->l[r]);
  for (size_t r = 0, rows; r < a->rows; r += rows) {
    rows = tile_value_rows(a->rows - r);
    attention_values_tile(a, r, rows);
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

static float attention_finish(size_t d_v, float m, float l, float *acc)
{
  if (l == 0) {
    memset(acc, 0, d_v * sizeof *acc);
    return -INFINITY;
  }
  const float inverse = 1.0f / l;
  for (size_t i = 0; i < d_v; i++) acc[i] *= inverse;
  return fmaf(m, 0x1.62e43p-1f, XF_SLEEF(logf1_u10purecfma)(l));
}

#endif
