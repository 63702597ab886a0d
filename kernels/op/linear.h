/* Linear layers over packed panels: y = x · wᵀ of floats, one FMA chain per output in each block of
 * XF_BLOCK over k, block sums added in ascending order. */
#ifndef XF_OP_LINEAR_H
#define XF_OP_LINEAR_H

enum {
  /* From this many rows on, 16-bit weights are widened once for all of them instead of once a tile:
   * exact, so the bits are the same. Fewer do not pay for what the floats take of the first cache.
   */
  WIDEN_ROWS = 12 * TILE_ROWS
};

/* tile_dot for one type of weights; `_asking`: for what comes next. (Apart, since that takes
 * instructions and registers, and gains nothing where the weights are in cache.) */
typedef void (*dot_function)(size_t rows, size_t panels, const struct dot_tile *t);

static void dot_f32(size_t rows, size_t panels, const struct dot_tile *t)
{
  tile_dot(XF_F32, false, rows, panels, t);
}

static void dot_f32_asking(size_t rows, size_t panels, const struct dot_tile *t)
{
  tile_dot(XF_F32, true, rows, panels, t);
}

static void dot_f16(size_t rows, size_t panels, const struct dot_tile *t)
{
  tile_dot(XF_F16, false, rows, panels, t);
}

static void dot_f16_asking(size_t rows, size_t panels, const struct dot_tile *t)
{
  tile_dot(XF_F16, true, rows, panels, t);
}

static void dot_bf16(size_t rows, size_t panels, const struct dot_tile *t)
{
  tile_dot(XF_BF16, false, rows, panels, t);
}

static void dot_bf16_asking(size_t rows, size_t panels, const struct dot_tile *t)
{
  tile_dot(XF_BF16, true, rows, panels, t);
}

XF_INLINE void widen(xf_type type, size_t n, const uint16_t *x, float *y)
{
  size_t i = 0;
  for (; i + XF_LANES <= n; i += XF_LANES) v16_store(y + i, v16_load_16(type, x + i));
  if (i == n) return;
  uint16_t rest[XF_LANES] = {0};
  memcpy(rest, x + i, (n - i) * sizeof *x);
  v16_store_n(y + i, n - i, v16_load_16(type, rest));
}

static void widen_f16(size_t n, const uint16_t *x, float *y)
{
  widen(XF_F16, n, x, y);
}

static void widen_bf16(size_t n, const uint16_t *x, float *y)
{
  widen(XF_BF16, n, x, y);
}

/* Lane by lane by a factor. */
XF_INLINE void widen_bytes(size_t n, const int8_t *x, v16 factor, float *y)
{
  size_t i = 0;
  for (; i + XF_LANES <= n; i += XF_LANES) v16_store(y + i, v16_mul(v16_load_i8(x + i), factor));
  if (i == n) return;
  int8_t rest[XF_LANES] = {0};
  memcpy(rest, x + i, n - i);
  v16_store_n(y + i, n - i, v16_mul(v16_load_i8(rest), factor));
}

static void widen_i8(size_t n, const int8_t *x, float scale, float *y)
{
  widen_bytes(n, x, v16_set1(scale), y);
}

static void widen_i8_panel(size_t n, const int8_t *x, const float *scale, float *y)
{
  widen_bytes(n * XF_LANES, x, v16_load(scale), y);
}

/* How one type of weights is read. */
struct weight_kind {
  xf_type type;
  dot_function dot; /* asking; NULL: its panels must be widened */
};

static const void *panel_at(const struct xf_linear_args *a, const struct weight_kind *kind,
                            size_t panel, size_t k0)
{
  size_t size = kind->type == XF_F32 ? sizeof(float) : sizeof(uint16_t);
  return (const char *)a->w + (panel * a->k + k0) * XF_LANES * size;
}

/* The same as floats: [k0, k0 + k) of a panel, in y. */
static const void *widened_at(const struct xf_linear_args *a, const struct weight_kind *kind,
                              size_t panel, size_t k0, size_t k, float *y)
{
  if (kind->type == XF_F16)
    widen_f16(k * XF_LANES, panel_at(a, kind, panel, k0), y);
  else if (kind->type == XF_BF16)
    widen_bf16(k * XF_LANES, panel_at(a, kind, panel, k0), y);
  else
    widen_quants(kind->type, a->k, a->w, panel, k0, k, y);
  return y;
}

/* What rows r … r + rows − 1 ask for: their share of the panels that come after the block of
 * linear_block. */
static struct asking ask_after(const struct xf_linear_args *a, const struct weight_kind *kind,
                               size_t first, size_t panels, size_t k0, size_t k, size_t r,
                               size_t rows)
{
  size_t row = XF_LANES * element_size(kind->type);
  bool deeper = k0 + k < a->k; /* else the next panels, maybe behind the last one */
  uintptr_t at = (uintptr_t)a->w + (deeper ? first * a->k + k0 + k : (first + panels) * a->k) * row;
  return asking_share(at, a->k * row, k, row, r, rows, a->rows);
}

/* Whole panels first … first + panels − 1, all rows, k of [k0, k0 + k). */
static void linear_block(const struct xf_linear_args *a, const struct weight_kind *kind,
                         size_t first, size_t panels, size_t k0, size_t k)
{
  const void *w[TILE_PANELS_MAX];
  bool widen_all = !kind->dot || (kind->type != XF_F32 && a->rows >= WIDEN_ROWS);
  dot_function wide = kind->dot ? dot_f32_asking : dot_f32;
  dot_function dot = widen_all ? wide : kind->dot;
  for (size_t p = 0; p < panels; p++)
    w[p] = widen_all ? widened_at(a, kind, first + p, k0, k, a->scratch + p * k * XF_LANES)
                     : panel_at(a, kind, first + p, k0);
  struct dot_tile t = {.ldx = a->ldx, .w = w, .k = k, .ldy = a->ldy, .add = k0 > 0};
  for (size_t r = 0, rows; r < a->rows; r += rows) {
    rows = tile_rows(a->rows - r);
    t.x = a->x + r * a->ldx + k0;
    t.y = a->y + r * a->ldy + first * XF_LANES;
    if (kind->dot) t.next = ask_after(a, kind, first, panels, k0, k, r, rows);
    dot(rows, panels, &t);
  }
}

/* The last panel, of which only n columns exist. */
static void linear_tail(const struct xf_linear_args *a, const struct weight_kind *kind,
                        size_t panel, size_t n)
{
  float tile[TILE_ROWS * XF_LANES];
  dot_function dot = kind->dot ? kind->dot : dot_f32;
  for (size_t r = 0, rows; r < a->rows; r += rows) {
    rows = tile_rows(a->rows - r);
    for (size_t k0 = 0; k0 < a->k; k0 += XF_BLOCK) {
      size_t k = a->k - k0 < XF_BLOCK ? a->k - k0 : XF_BLOCK;
      const void *w =
          kind->dot ? panel_at(a, kind, panel, k0) : widened_at(a, kind, panel, k0, k, a->scratch);
      struct dot_tile t = {.ldx = a->ldx, .w = &w, .k = k, .ldy = XF_LANES, .add = k0 > 0};
      t.x = a->x + r * a->ldx + k0;
      t.y = tile;
      dot(rows, 1, &t);
    }
    for (size_t i = 0; i < rows; i++)
      memcpy(a->y + (r + i) * a->ldy + panel * XF_LANES, tile + i * XF_LANES, n * sizeof *tile);
  }
}

/* The panels that tiles of so many rows take of those that are left: where there are too few, as
 * many as a taller tile takes. */
static size_t panels_for(size_t rows, size_t left)
{
  for (; rows <= TILE_ROWS; rows *= 2)
    if (tile_panels(rows) <= left) return tile_panels(rows);
  return 1;
}

static void linear(const struct xf_linear_args *a, const struct weight_kind *kind)
{
  size_t whole = a->n / XF_LANES, rest = a->n % XF_LANES;
  /* Tiles of four rows or more take at most XF_WIDEN_PANELS panels, those of fewer maybe more. */
  size_t tall = kind->dot || a->rows > 4 ? a->rows : 4;
  for (size_t p = 0, panels; p < whole; p += panels) {
    panels = panels_for(tile_rows(tall), whole - p);
    for (size_t k0 = 0; k0 < a->k; k0 += XF_BLOCK) {
      size_t k = a->k - k0 < XF_BLOCK ? a->k - k0 : XF_BLOCK;
      linear_block(a, kind, p, panels, k0, k);
    }
  }
  if (rest) linear_tail(a, kind, whole, rest);
}

static void linear_f32(const struct xf_linear_args *a)
{
  linear(a, &(struct weight_kind){XF_F32, dot_f32_asking});
}

static void linear_f16(const struct xf_linear_args *a)
{
  linear(a, &(struct weight_kind){XF_F16, dot_f16_asking});
}

static void linear_bf16(const struct xf_linear_args *a)
{
  linear(a, &(struct weight_kind){XF_BF16, dot_bf16_asking});
}

static void linear_widened(xf_type type, const struct xf_linear_args *a)
{
  linear(a, &(struct weight_kind){type, NULL});
}

#endif
