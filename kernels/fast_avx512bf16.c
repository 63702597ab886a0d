/* VDPBF16PS adds the product of two high halves to a sum, then that of the low ones, each with one
 * rounding to nearest even and subnormals as zeros, whatever MXCSR says. With k in the high half
 * and k + 1 in the low one that is a step of two of an output's chain. */
#include "kernels/fast.h"

#include <immintrin.h>
#include <stdbool.h>

#include "kernels/op/asking.h"

/* As many sums as tile/avx512.h has; the panels of tiles with few rows keep several streams. */
enum { ROWS = 8, PANELS = 3, FLAT_PANELS = 4, ASKING_ROWS = 8 };

/* ---- activations ---- */

static void round_bf16(size_t k, const float *x, uint32_t *pairs)
{
  for (size_t i = 0; i < k; i += 2 * XF_LANES) {
    size_t n = k - i < 2 * XF_LANES ? k - i : 2 * XF_LANES;
    __mmask32 live = (__mmask32)((1ull << n) - 1);
    __m512 low = _mm512_maskz_loadu_ps((__mmask16)live, x + i),
           high = _mm512_maskz_loadu_ps((__mmask16)(live >> XF_LANES), x + i + XF_LANES);
    __m512i both = _mm512_rol_epi32((__m512i)_mm512_cvtne2ps_pbh(high, low), 16);
    _mm512_storeu_si512(pairs + i / 2, both);
  }
}

/* ---- tiles ---- */

struct tile {
  const uint32_t *x; /* of the first row, from the block's first pair on */
  size_t ldx;
  const uint16_t *w; /* of the first panel, from the block's first row on */
  size_t panel;      /* from a panel to the next */
  size_t k;
  float *y;
  size_t ldy;
  bool add;
  struct asking next;
};

/* Sixteen pairs from two rows of a panel; one row is left: beside zeros. */
XF_INLINE __m512bh pairs_of(const uint16_t *w, bool one)
{
  const __m512i order =
      _mm512_set_epi16(15, 31, 14, 30, 13, 29, 12, 28, 11, 27, 10, 26, 9, 25, 8, 24, 7, 23, 6, 22,
                       5, 21, 4, 20, 3, 19, 2, 18, 1, 17, 0, 16);
  __m512i rows = one ? _mm512_maskz_loadu_epi16(0xFFFF, w) : _mm512_loadu_si512(w);
  return (__m512bh)_mm512_permutexvar_epi16(order, rows);
}

XF_INLINE void step(const int rows, const int panels, __m512 *sum, const struct tile *t, size_t i,
                    bool one)
{
  __m512bh column[FLAT_PANELS];
  XF_UNROLL
  for (int p = 0; p < panels; p++)
    column[p] = pairs_of(t->w + (size_t)p * t->panel + i * XF_LANES, one);
  XF_UNROLL
  for (int r = 0; r < rows; r++) {
    __m512bh x = (__m512bh)_mm512_set1_epi32((int)t->x[(size_t)r * t->ldx + i / 2]);
    XF_UNROLL
    for (int p = 0; p < panels; p++)
      sum[r * panels + p] = _mm512_dpbf16_ps(sum[r * panels + p], column[p], x);
  }
}

XF_INLINE void tile_shape(const int rows, const int panels, const struct tile *t)
{
  __m512 sum[ROWS * PANELS];
  XF_UNROLL
  for (int i = 0; i < rows * panels; i++) sum[i] = _mm512_setzero_ps();
  struct asking next = t->next;
  size_t i = 0;
  for (; i + 2 <= t->k; i += 2) {
    if (rows >= ASKING_ROWS) ask_step(&next, panels);
    step(rows, panels, sum, t, i, false);
  }
  if (i < t->k) step(rows, panels, sum, t, i, true);
  const __mmask16 add = t->add ? 0xFFFF : 0; /* no branches here: clang would spill sums */
  XF_UNROLL
  for (int r = 0; r < rows; r++) {
    XF_UNROLL
    for (int p = 0; p < panels; p++) {
      float *y = t->y + (size_t)r * t->ldy + p * XF_LANES;
      __m512 block = sum[r * panels + p];
      _mm512_storeu_ps(y, _mm512_mask_add_ps(block, add, _mm512_maskz_loadu_ps(add, y), block));
    }
  }
}

XF_INLINE size_t tile_rows(size_t rows)
{
  return rows >= 8 ? 8 : rows >= 4 ? 4 : rows >= 2 ? 2 : 1;
}

static void tile(size_t rows, size_t panels, const struct tile *t)
{
  switch (rows << 4 | panels) {
  case 0x83: tile_shape(8, 3, t); break;
  case 0x81: tile_shape(8, 1, t); break;
  case 0x44: tile_shape(4, 4, t); break;
  case 0x43: tile_shape(4, 3, t); break;
  case 0x41: tile_shape(4, 1, t); break;
  case 0x24: tile_shape(2, 4, t); break;
  case 0x23: tile_shape(2, 3, t); break;
  case 0x21: tile_shape(2, 1, t); break;
  case 0x14: tile_shape(1, 4, t); break;
  case 0x13: tile_shape(1, 3, t); break;
  default: tile_shape(1, 1, t); break;
  }
}

/* ---- layers ---- */

static struct tile tile_at(const struct xf_fast_args *a, size_t panel, size_t k0)
{
  return (struct tile){.x = a->x + k0 / 2,
                       .ldx = xf_fast_pairs(a->k),
                       .w = a->w + (panel * a->k + k0) * XF_LANES,
                       .panel = a->k * XF_LANES,
                       .k = a->k - k0 < XF_BLOCK ? a->k - k0 : XF_BLOCK,
                       .y = a->y + panel * XF_LANES,
                       .ldy = a->ldy,
                       .add = k0 > 0};
}

/* Whole panels, all rows. */
static void whole_panels(const struct xf_fast_args *a, size_t first, size_t panels)
{
  for (size_t k0 = 0; k0 < a->k; k0 += XF_BLOCK) {
    struct tile t = tile_at(a, first, k0);
    bool deeper = k0 + t.k < a->k; /* else the next panels, maybe behind the last one */
    uintptr_t after =
        (uintptr_t)(t.w + (deeper ? t.k * XF_LANES : panels * t.panel - k0 * XF_LANES));
    for (size_t r = 0, rows; r < a->rows; r += rows) {
      rows = tile_rows(a->rows - r);
      t.next = asking_share(after, 2 * t.panel, t.k / 2, 4 * XF_LANES, r, rows, a->rows);
      tile(rows, panels, &t);
      t.x += rows * t.ldx;
      t.y += rows * t.ldy;
    }
  }
}

/* The last panel, of which only n columns exist. */
static void rest_of_panel(const struct xf_fast_args *a, size_t panel, size_t n)
{
  float sums[ROWS * XF_LANES];
  for (size_t r = 0, rows; r < a->rows; r += rows) {
    rows = tile_rows(a->rows - r);
    for (size_t k0 = 0; k0 < a->k; k0 += XF_BLOCK) {
      struct tile t = tile_at(a, panel, k0);
      t.x += r * t.ldx;
      t.y = sums;
      t.ldy = XF_LANES;
      tile(rows, 1, &t);
    }
    for (size_t i = 0; i < rows; i++)
      memcpy(a->y + (r + i) * a->ldy + panel * XF_LANES, sums + i * XF_LANES, n * sizeof *sums);
  }
}

static void linear_bf16(const struct xf_fast_args *a)
{
  size_t whole = a->n / XF_LANES, wide = a->rows < 8 ? FLAT_PANELS : PANELS;
  for (size_t p = 0, panels; p < whole; p += panels) {
    panels = whole - p >= wide ? wide : 1;
    whole_panels(a, p, panels);
  }
  if (a->n % XF_LANES) rest_of_panel(a, whole, a->n % XF_LANES);
}

const struct xf_fast_kernels xf_fast_avx512bf16 = {"avx512bf16", round_bf16, linear_bf16};
