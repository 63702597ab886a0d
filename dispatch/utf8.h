/* UTF-8 as RFC 3629 has it: no overlong forms, no surrogates, nothing above U+10FFFF. */
#ifndef XF_UTF8_H
#define XF_UTF8_H

#include <stdbool.h>
#include <stddef.h>

enum { XF_UTF8_INVALID = 0, XF_UTF8_CUT = -1 };

/* What begins at s[0 … n), n ≥ 1: the bytes (1 … 4) of a whole character, XF_UTF8_CUT where all n
 * bytes are the beginning of one, else XF_UTF8_INVALID. */
static inline int xf_utf8_character(const char *s, size_t n)
{
  unsigned char lead = (unsigned char)s[0];
  if (lead < 0x80) return 1;
  if (lead < 0xC2 || lead > 0xF4) return XF_UTF8_INVALID;
  int bytes = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  /* Only the second byte has a narrower range, after these four. */
  unsigned char low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  unsigned char high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  for (int i = 1; i < bytes; i++) {
    if ((size_t)i == n) return XF_UTF8_CUT;
    unsigned char next = (unsigned char)s[i];
    if (next < low || next > high) return XF_UTF8_INVALID;
    low = 0x80, high = 0xBF;
  }
  return bytes;
}

static inline bool xf_utf8_valid(const char *s, size_t n)
{
  size_t i = 0;
  while (i < n) {
    int bytes = xf_utf8_character(s + i, n - i);
    if (bytes <= 0) return false;
    i += (size_t)bytes;
  }
  return true;
}

#endif
