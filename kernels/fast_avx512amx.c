/* AMX's TDPBF16PS: of 32 k, the products of even and of odd ones are two chains that begin at 0;
 * their sum is added to the output. Roundings are to nearest even and subnormals zeros, whatever
 * MXCSR says.
 *
 * 16 rows by 16 columns take 16 cycles, sixteen times as fast as FMAs, where memory keeps up. So as
 * many rows and k of x are taken at a time as stay in the second cache, some k of two panels are
 * turned into pairs once for all of these rows, few enough to stay in the first one. Turning and
 * every tile ask the second cache for the same share of what comes next, so that memory never
 * rests. */
#include "kernels/fast.h"
#include "kernels/op/asking.h"
#include "kernels/tile/amx_shapes.h"

enum {
  STEP = 32, /* k of an instruction */
  LINE = 64, /* bytes of a row of a tile */
  ROWS = 2 * AMX_TILE_ROWS,
  COLUMNS = 2 * XF_LANES,
  DEPTH = 256,     /* most k of weights at once */
  PART_ROWS = 256, /* most rows and k of x at once */
  PART_K = 2048
};

/* ---- weights ---- */

/* What tiles read and write: in a call's scratch. */
struct work {
  uint16_t w[DEPTH / STEP][2][STEP * XF_LANES]; /* of two panels, in pairs [STEP / 2][16][2] */
  float y[PART_ROWS][COLUMNS];
  size_t shaped; /* rows that the tiles are configured for */
};
_Static_assert(sizeof(struct work) + LINE <= XF_LINEAR_SCRATCH * sizeof(float), "it fits");

/* The first k of a panel's next STEP, with zeros behind them. */
XF_INLINE void turn_step(const uint16_t *w, size_t k, uint16_t *pairs)
{
  const __m512i order =
      _mm512_set_epi16(15, 31, 14, 30, 13, 29, 12, 28, 11, 27, 10, 26, 9, 25, 8, 24, 7, 23, 6, 22,
                       5, 21, 4, 20, 3, 19, 2, 18, 1, 17, 0, 16);
  XF_UNROLL
  for (size_t i = 0; i < STEP; i += 2) {
    const __mmask32 live = k >= i + 2 ? 0xFFFFFFFF : k > i ? 0xFFFF : 0;
    const __m512i rows = _mm512_maskz_loadu_epi16(live, w + i * XF_LANES);
    _mm512_store_si512(pairs + i * XF_LANES, _mm512_permutexvar_epi16(order, rows));
  }
}

static void turn(const uint16_t *const panels[2], size_t k, struct work *work, struct asking next)
{
  for (size_t i = 0; i < k; i += STEP) {
    ask_far(&next, 2);
    for (int p = 0; p < 2; p++) {
      if (k - i >= STEP)
        turn_step(panels[p] + i * XF_LANES, STEP, work->w[i / STEP][p]);
      else
        turn_step(panels[p] + i * XF_LANES, k - i, work->w[i / STEP][p]);
    }
  }
  amx_fence(work);
}

/* ---- tiles ---- */

/* Sums of up to 32 rows, from 0 or from y on. */
XF_INLINE void load_sums(bool both, bool fresh, const float (*y)[COLUMNS])
{
  if (fresh) {
    _tile_zero(0);
    _tile_zero(1);
  } else {
    _tile_loadd(0, y[0], sizeof *y);
    _tile_loadd(1, y[0] + XF_LANES, sizeof *y);
  }
  if (both && fresh) {
    _tile_zero(2);
    _tile_zero(3);
  } else if (both) {
    _tile_loadd(2, y[AMX_TILE_ROWS], sizeof *y);
    _tile_loadd(3, y[AMX_TILE_ROWS] + XF_LANES, sizeof *y);
  }
}

XF_INLINE void store_sums(bool both, float (*y)[COLUMNS])
{
  _tile_stored(0, y[0], sizeof *y);
  _tile_stored(1, y[0] + XF_LANES, sizeof *y);
  if (both) {
    _tile_stored(2, y[AMX_TILE_ROWS], sizeof *y);
    _tile_stored(3, y[AMX_TILE_ROWS] + XF_LANES, sizeof *y);
  }
  amx_fence(y);
}

/* y += x · w of k; both: there are more than 16 rows. */
XF_INLINE void tile(bool both, const uint32_t *x, size_t ldx, size_t k, bool fresh,
                    struct work *work, size_t row, struct asking next)
{
  load_sums(both, fresh, (const float(*)[COLUMNS])work->y + row);
  for (size_t i = 0; i < k; i += STEP, x += STEP / 2) {
    const uint16_t(*w)[STEP * XF_LANES] = work->w[i / STEP];
    ask_far(&next, 2);
    _tile_loadd(4, x, ldx * sizeof *x);
    _tile_loadd(6, w[0], LINE);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(7, w[1], LINE);
    _tile_dpbf16ps(1, 4, 7);
    if (!both) continue;
    _tile_loadd(5, x + AMX_TILE_ROWS * ldx, ldx * sizeof *x);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  store_sums(both, work->y + row);
}

/* ---- layers ---- */

/* Some rows and k [from, end) by two panels, or by the last one twice. */
struct part {
  size_t rows, from, end, n; /* columns that there are */
  const uint32_t *x;         /* of k 0 */
  const uint16_t *panels[2];
  float *y;
};

static void read_y(const struct part *part, size_t ldy, struct work *work)
{
  const __mmask32 some = (__mmask32)((1ull << part->n) - 1);
  for (size_t r = 0; r < part->rows; r++) {
    const float *y = part->y + r * ldy;
    const __m512 low = _mm512_maskz_loadu_ps((__mmask16)some, y),
                 high = _mm512_maskz_loadu_ps((__mmask16)(some >> XF_LANES), y + XF_LANES);
    _mm512_store_ps(work->y[r], low);
    _mm512_store_ps(work->y[r] + XF_LANES, high);
  }
  amx_fence(work);
}

static void write_y(const struct part *part, size_t ldy, const struct work *work)
{
  const __mmask32 some = (__mmask32)((1ull << part->n) - 1);
  for (size_t r = 0; r < part->rows; r++) {
    float *y = part->y + r * ldy;
    const __m512 low = _mm512_load_ps(work->y[r]), high = _mm512_load_ps(work->y[r] + XF_LANES);
    _mm512_mask_storeu_ps(y, (__mmask16)some, low);
    _mm512_mask_storeu_ps(y + XF_LANES, (__mmask16)(some >> XF_LANES), high);
  }
}

/* What one of so many parts of the work with [from, from + k) asks for: its share of what comes
 * next, deeper in these panels or in those behind them. */
static struct asking share_after(const struct xf_fast_args *a, const struct part *part, size_t from,
                                 size_t k, size_t i, size_t of)
{
  const bool deeper = from + k < part->end;
  const size_t row = sizeof *a->w * XF_LANES, at = deeper ? from + k : 2 * a->k + part->from;
  return asking_share((uintptr_t)part->panels[0] + at * row, a->k * row, (k + STEP - 1) / STEP,
                      STEP * row, i, 1, of);
}

/* All rows by k [from, from + k). */
static void multiply(const struct xf_fast_args *a, const struct part *part, size_t from, size_t k,
                     struct work *work)
{
  const size_t ldx = xf_fast_pairs(a->k), tiles = (part->rows + ROWS - 1) / ROWS;
  const uint16_t *const w[2] = {part->panels[0] + from * XF_LANES,
                                part->panels[1] + from * XF_LANES};
  turn(w, k, work, share_after(a, part, from, k, 0, tiles + 1));
  for (size_t i = 0; i < tiles; i++) {
    const size_t r = i * ROWS, rows = part->rows - r < ROWS ? part->rows - r : ROWS;
    if (rows != work->shaped) {
      const struct amx_shapes shapes = amx_shapes_of(rows, LINE);
      amx_configure(&shapes);
      work->shaped = rows;
    }
    tile(rows > AMX_TILE_ROWS, part->x + r * ldx + from / 2, ldx, k, from == 0, work, r,
         share_after(a, part, from, k, i + 1, tiles + 1));
  }
}

static void linear_bf16(const struct xf_fast_args *a)
{
  struct work *work = (void *)(((uintptr_t)a->scratch + LINE - 1) / LINE * LINE);
  const size_t turns = (a->rows + PART_ROWS - 1) / PART_ROWS,
               most = (a->rows / turns + ROWS - 1) / ROWS * ROWS;
  const struct amx_shapes before = amx_shapes_now();
  struct part part;
  work->shaped = 0;
  for (size_t r = 0; r < a->rows; r += part.rows) {
    part.rows = a->rows - r < most ? a->rows - r : most;
    part.x = a->x + r * xf_fast_pairs(a->k);
    for (part.from = 0; part.from < a->k; part.from = part.end) {
      part.end = a->k - part.from < PART_K ? a->k : part.from + PART_K;
      for (size_t column = 0; column < a->n; column += COLUMNS) {
        part.n = a->n - column < COLUMNS ? a->n - column : COLUMNS;
        part.panels[0] = a->w + column * a->k;
        part.panels[1] = part.panels[0] + (part.n > XF_LANES ? a->k * XF_LANES : 0);
        part.y = a->y + r * a->ldy + column;
        if (part.from > 0) read_y(&part, a->ldy, work);
        for (size_t at = part.from; at < part.end; at += DEPTH)
          multiply(a, &part, at, part.end - at < DEPTH ? part.end - at : DEPTH, work);
        write_y(&part, a->ldy, work);
      }
    }
  }
  amx_configure(&before);
}

/* Which half of a pair has the even element does not matter: each has its chain. */
static void round_bf16(size_t k, const float *x, uint32_t *pairs)
{
  xf_fast_avx512bf16.round(k, x, pairs);
}

const struct xf_fast_kernels xf_fast_avx512amx = {"amxbf16", round_bf16, linear_bf16};
