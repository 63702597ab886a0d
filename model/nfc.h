/* Unicode's normalization form C (UAX #15), which some models' text is put into first. */
#ifndef XF_MODEL_NFC_H
#define XF_MODEL_NFC_H

#include <stdbool.h>
#include <stddef.h>

/* False: the text is in form C for certain, having no character from U+0300 on. */
bool xf_nfc_may_change(const char *text, size_t bytes);

/* The text in form C, *out_bytes ≤ 3 · bytes of it, from xf_alloc; NULL: out of memory. Bytes that
 * are not UTF-8 stay as they are, and what surrounds them is normalized apart. */
char *xf_nfc(const char *text, size_t bytes, size_t *out_bytes);

#endif
