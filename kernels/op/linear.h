/* Linear layers over packed panels: y = x · wᵀ of floats, one FMA chain per output in each block of
 * XF_BLOCK over k, block sums added in ascending order. */
#ifndef XF_OP_LINEAR_H
#define XF_OP_LINEAR_H

enum {
  /* From this many rows on, 16-bit weights are widened once for all of them instead of once a tile:
   * exact, so the bits are the same. Fewer do not pay for what the floats take of the first cache.
   */
  WIDEN_ROWS = 12 * TILE_ROWS,
  /* Where there are so many rows, so many at once, or twice as many at most, take a block of k by
   * all panels: of more, or of more k, x would not stay in the second cache. */
  LINEAR_ROWS = 128
};

/* tile_dot for one type of weights; `_asking`: for what comes next. (Apart, since that takes
 * instructions and registers, and gains nothing where the weights are in cache.) */
typedef void (*dot_function)(size_t rows, size_t panels, const struct dot_tile *t);

static void dot_f32(size_t rows, size_t panels, const struct dot_tile *t)
{
  tile_dot(XF_F32, ASKS_NOTHING, rows, panels, t);
}

static void dot_f32_asking(size_t rows, size_t panels, const struct dot_tile *t)
{
  tile_dot(XF_F32, ASKS_NEXT, rows, panels, t);
}

/* Other types' are faster without. */
static void dot_f32_near(size_t rows, size_t panels, const struct dot_tile *t)
{
  tile_dot(XF_F32, ASKS_NEAR, rows, panels, t);
}

static void dot_f16(size_t rows, size_t panels, const struct dot_tile *t)
{
  tile_dot(XF_F16, ASKS_NOTHING, rows, panels, t);
}

static void dot_f16_asking(size_t rows, size_t panels, const struct dot_tile *t)
{
  tile_dot(XF_F16, ASKS_NEXT, rows, panels, t);
}

static void dot_bf16(size_t rows, size_t panels, const struct dot_tile *t)
{
  tile_dot(XF_BF16, ASKS_NOTHING, rows, panels, t);
}

static void dot_bf16_asking(size_t rows, size_t panels, const struct dot_tile *t)
{
  tile_dot(XF_BF16, ASKS_NEXT, rows, panels, t);
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

/* Blocks [k0, k0 + k) of panels [first, first + panels), and those whose turn comes then. */
struct linear_part {
  size_t first, panels, k0, k;
  size_t next, next_k0;
};

/* What rows r … r + rows − 1 ask for: their share of what comes next. */
static struct asking ask_after(const struct xf_linear_args *a, const struct weight_kind *kind,
                               const struct linear_part *part, size_t r, size_t rows)
{
  size_t row = XF_LANES * element_size(kind->type);
  uintptr_t at = (uintptr_t)a->w + (part->next * a->k + part->next_k0) * row;
  return asking_share(at, a->k * row, part->k, row, r, rows, a->rows);
}

/* Whether weights are widened before the tiles take them. */
static bool widens(const struct weight_kind *kind, size_t rows)
{
  return !kind->dot || (kind->type != XF_F32 && rows >= WIDEN_ROWS);
}

/* All rows by whole panels. */
static void linear_block(const struct xf_linear_args *a, const struct weight_kind *kind,
                         const struct linear_part *part)
{
  const void *w[TILE_PANELS_MAX];
  const size_t k0 = part->k0, k = part->k, column = part->first * XF_LANES;
  const bool widen_all = widens(kind, a->rows);
  dot_function dot = kind->dot;
  if (widen_all || kind->type == XF_F32)
    dot = a->far ? dot_f32_near : kind->dot ? dot_f32_asking : dot_f32;
  for (size_t p = 0; p < part->panels; p++)
    w[p] = widen_all ? widened_at(a, kind, part->first + p, k0, k, a->scratch + p * k * XF_LANES)
                     : panel_at(a, kind, part->first + p, k0);
  struct dot_tile t = {.ldx = a->ldx, .w = w, .k = k, .ldy = a->ldy, .add = k0 > 0};
  for (size_t r = 0, rows; r < a->rows; r += rows) {
    rows = tile_rows(a->rows - r);
    t.x = a->x + r * a->ldx + k0;
    t.y = a->y + r * a->ldy + column;
    if (kind->dot) t.next = ask_after(a, kind, part, r, rows);
    dot(rows, part->panels, &t);
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

/* Some rows by k [from, end) of all whole panels. */
static void linear_depth(const struct xf_linear_args *a, const struct weight_kind *kind,
                         size_t from, size_t end)
{
  const size_t whole = a->n / XF_LANES;
  /* Tiles of four rows or more take at most XF_WIDEN_PANELS panels, those of fewer maybe more. */
  const size_t tall = kind->dot || a->rows > 4 ? a->rows : 4;
  struct linear_part part = {0};
  for (; part.first < whole; part.first += part.panels) {
    part.panels = panels_for(tile_rows(tall), whole - part.first);
    for (part.k0 = from; part.k0 < end; part.k0 += part.k) {
      part.k = end - part.k0 < XF_BLOCK ? end - part.k0 : XF_BLOCK;
      const bool deeper = part.k0 + part.k < end, last = part.first + part.panels == whole;
      part.next = deeper ? part.first : last ? 0 : part.first + part.panels;
      part.next_k0 = deeper ? part.k0 + part.k : last ? end : from;
      linear_block(a, kind, &part);
    }
  }
}

static void linear(const struct xf_linear_args *a, const struct weight_kind *kind)
{
  const size_t most = widens(kind, a->rows) ? 2 * LINEAR_ROWS : LINEAR_ROWS;
  const size_t turns = a->rows < most ? 1 : a->rows / most,
               rows = (a->rows / turns + TILE_ROWS - 1) / TILE_ROWS * TILE_ROWS,
               depth = a->rows < most ? a->k : XF_BLOCK;
  struct xf_linear_args some = *a;
  for (size_t r = 0; r < a->rows; r += rows) {
    some.rows = a->rows - r < rows ? a->rows - r : rows;
    some.x = a->x + r * a->ldx;
    some.y = a->y + r * a->ldy;
    for (size_t k = 0; k < a->k; k += depth)
      linear_depth(&some, kind, k, a->k - k < depth ? a->k : k + depth);
    if (a->n % XF_LANES) linear_tail(&some, kind, a->n / XF_LANES, a->n % XF_LANES);
  }
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
