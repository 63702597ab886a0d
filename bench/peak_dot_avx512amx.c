/* Products between AMX's tiles, for the use of which the library has asked the system. */
#include <immintrin.h>
#include <stdint.h>

#include "bench/peaks.h"

enum { CHAINS = 4, TILES = 8, TILE_ROWS = 16, ROW_BYTES = 64, COLUMNS = 16 };

static float run_chains(size_t steps)
{
  struct {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
  } shapes = {.palette = 1};
  for (int i = 0; i < TILES; i++) shapes.row_bytes[i] = ROW_BYTES, shapes.rows[i] = TILE_ROWS;
  __asm__ volatile("" : : "r"(&shapes) : "memory"); /* compilers do not know that it is read */
  _tile_loadconfig(&shapes);
  for (size_t step = 0; step < steps; step++) {
    _tile_dpbsud(0, 4, 6);
    _tile_dpbsud(1, 4, 7);
    _tile_dpbsud(2, 5, 6);
    _tile_dpbsud(3, 5, 7);
  }
  _tile_release();
  return 0;
}

const struct peak_loop dot_loop_avx512amx = {CHAINS * 2 * TILE_ROWS * ROW_BYTES * COLUMNS,
                                             run_chains};
