/* Products between AMX's tiles, for the use of which the library has asked the system. */
#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>

#include "bench/peaks.h"

enum { CHAINS = 4, TILES = 8, TILE_ROWS = 16, ROW_BYTES = 64, COLUMNS = 16 };

static void shape_tiles(void)
{
  struct {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
  } shapes = {.palette = 1};
  for (int i = 0; i < TILES; i++) shapes.row_bytes[i] = ROW_BYTES, shapes.rows[i] = TILE_ROWS;
  __asm__ volatile("" : : "r"(&shapes) : "memory"); /* compilers do not know that it is read */
  _tile_loadconfig(&shapes);
}

static inline float run_chains(const bool bf16, size_t steps)
{
  shape_tiles();
  for (size_t step = 0; step < steps; step++) {
    if (bf16) {
      _tile_dpbf16ps(0, 4, 6);
      _tile_dpbf16ps(1, 4, 7);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    } else {
      _tile_dpbsud(0, 4, 6);
      _tile_dpbsud(1, 4, 7);
      _tile_dpbsud(2, 5, 6);
      _tile_dpbsud(3, 5, 7);
    }
  }
  _tile_release();
  return 0;
}

static float run_bytes(size_t steps)
{
  return run_chains(false, steps);
}

static float run_bf16(size_t steps)
{
  return run_chains(true, steps);
}

enum { BYTES_A_STEP = CHAINS * TILE_ROWS * ROW_BYTES * COLUMNS };

const struct peak_loop dot_loop_avx512amx = {2 * BYTES_A_STEP, run_bytes},
                       bf16_loop_avx512amx = {BYTES_A_STEP, run_bf16};
