/* FNV-1a of bytes (Fowler, Noll & Vo). */
#ifndef XF_MODEL_FNV_H
#define XF_MODEL_FNV_H

#include <stddef.h>
#include <stdint.h>

/* Of what is in front of the first byte. */
#define XF_FNV_BEGIN UINT64_C(0xCBF29CE484222325)

static inline uint64_t xf_fnv(uint64_t h, const void *data, size_t bytes)
{
  const unsigned char *p = data;
  for (size_t i = 0; i < bytes; i++) h = (h ^ p[i]) * 0x100000001B3u;
  return h;
}

#endif
