/* FNV-1a, 64 bits (Fowler, Noll & Vo): a fingerprint that tells results apart at a glance, and
 * guards against nobody. */
#ifndef XF_CLI_FNV1A_H
#define XF_CLI_FNV1A_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define XF_FNV1A_BEGIN 0xCBF29CE484222325u

/* Goes on over n little-endian words of 32 bits, such as floats. */
static inline uint64_t xf_fnv1a(uint64_t hash, const void *words, size_t n)
{
  for (size_t i = 0; i < n; i++) {
    uint32_t bits;
    memcpy(&bits, (const char *)words + i * sizeof bits, sizeof bits);
    for (int shift = 0; shift < 32; shift += 8) {
      hash ^= bits >> shift & 0xFF;
      hash *= 0x100000001B3u;
    }
  }
  return hash;
}

#endif
