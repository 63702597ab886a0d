/* Memory far greater than the last-level cache: what runs over it in turn finds nothing cached. */
#ifndef XF_BENCH_ARENA_H
#define XF_BENCH_ARENA_H

#include <stdbool.h>
#include <stddef.h>

/* Fills it once with numbers of magnitude 0.007 … 2 as f32, as bf16 and as f16. False: out of
 * memory. */
bool arena_open(void);
void arena_close(void);
size_t arena_bytes(void);

/* The next `bytes` bytes, aligned to 64; from the start again where the end is reached. bytes ≤
 * arena_bytes(). */
void *arena_next(size_t bytes);

/* n floats of the arena's kind. */
void arena_fill(float *out, size_t n);

#endif
