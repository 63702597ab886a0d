/* AMX's tiles: their shapes, whose they are, and what compilers do not know of them.
 *
 * All kernels divide the registers in one way: 0 to 3 are sums, 4 and 5 rows of x, the second from
 * the 17th row on, 6 and 7 weights of a panel each. */
#ifndef XF_TILE_AMX_SHAPES_H
#define XF_TILE_AMX_SHAPES_H

#include <immintrin.h>
#include <stdint.h>

#include "kernels/kernels.h"
#include "kernels/simd/common.h"

enum { AMX_TILE_ROWS = 16 }; /* most rows of a tile */

/* What LDTILECFG reads and STTILECFG writes. */
struct amx_shapes {
  uint8_t palette, start_row, reserved[14];
  uint16_t row_bytes[16];
  uint8_t rows[16];
};

/* The compiler knows neither that tile instructions read memory nor, where it does not see it
 * written elsewhere, that they write it. */
XF_INLINE void amx_fence(const void *memory)
{
  __asm__ volatile("" : : "r"(memory) : "memory");
}

/* The configuration that the thread has: a host may keep one, as llama.cpp does. */
static inline struct amx_shapes amx_shapes_now(void)
{
  struct amx_shapes shapes;
  _tile_storeconfig(&shapes);
  amx_fence(&shapes);
  return shapes;
}

/* One without shapes releases the tiles. */
static inline void amx_configure(const struct amx_shapes *shapes)
{
  amx_fence(shapes);
  _tile_loadconfig(shapes);
}

/* For `rows` ≤ 32 of x, of which an instruction takes `bytes` each. */
static inline struct amx_shapes amx_shapes_of(size_t rows, size_t bytes)
{
  const size_t lower = rows > AMX_TILE_ROWS ? rows - AMX_TILE_ROWS : 0;
  struct amx_shapes s = {.palette = 1};
  for (int i = 0; i < 8; i++) {
    const bool x = i == 4 || i == 5, second = i == 2 || i == 3 || i == 5;
    const size_t some = second ? lower : lower ? AMX_TILE_ROWS : rows;
    s.rows[i] = (uint8_t)(i < 6 ? some : bytes / 4);
    s.row_bytes[i] = s.rows[i] ? (uint16_t)(x ? bytes : 4 * XF_LANES) : 0;
  }
  return s;
}

#endif
