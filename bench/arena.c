#include "bench/arena.h"

#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "dispatch/memory.h"

enum { LEAST_BYTES = 256 << 20, CACHES = 4, ALIGNMENT = 64 };

static struct {
  char *data;
  size_t bytes, next;
} arena;

bool arena_open(void)
{
  long cache = sysconf(_SC_LEVEL3_CACHE_SIZE); /* 0 or −1 where unknown */
  size_t wanted = cache > 0 ? (size_t)cache * CACHES : 0;
  arena.bytes = xf_round_up(wanted > LEAST_BYTES ? wanted : LEAST_BYTES, ALIGNMENT);
  arena.data = xf_alloc(arena.bytes, 1);
  if (!arena.data) return false;
  arena_fill((float *)arena.data, arena.bytes / sizeof(float));
  return true;
}

void arena_close(void)
{
  xf_free(arena.data);
  arena.data = NULL;
}

size_t arena_bytes(void)
{
  return arena.bytes;
}

void *arena_next(size_t bytes)
{
  if (arena.bytes - arena.next < bytes) arena.next = 0;
  char *region = arena.data + arena.next;
  arena.next += xf_round_up(bytes, ALIGNMENT);
  if (arena.next > arena.bytes) arena.next = 0;
  return region;
}

void arena_fill(float *out, size_t n)
{
  uint64_t state = 1;
  for (size_t i = 0; i < n; i++) {
    state = state * 6364136223846793005u + 1442695040888963407u; /* Knuth's MMIX */
    /* Both halves: any sign, exponent bits 01111xx of bf16 and f16, any mantissa. */
    uint32_t bits = ((uint32_t)(state >> 32) & 0x83FF83FFu) | 0x3C003C00u;
    memcpy(&out[i], &bits, sizeof bits);
  }
}
