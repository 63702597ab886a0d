#include "model/nfc.h"

#include <string.h>
#include <utf8proc.h>

#include "dispatch/memory.h"
#include "dispatch/utf8.h"

enum { LONGEST_DECOMPOSITION = 4 };

struct run {
  utf8proc_int32_t *codes, *scratch; /* [capacity] */
  size_t n;
};

bool xf_nfc_may_change(const char *text, size_t bytes)
{
  for (size_t i = 0; i < bytes; i++)
    if ((unsigned char)text[i] >= 0xCC) return true; /* leads U+0300 and all above */
  return false;
}

static int class_of(utf8proc_int32_t code)
{
  return utf8proc_get_property(code)->combining_class;
}

/* Puts codes[begin … end), all of them combining marks, into the order of their classes, those of
 * one class staying as they are: a counting sort, so that hostile text costs no more than other. */
static void order_marks(struct run *run, size_t begin, size_t end)
{
  size_t starts[257] = {0};
  for (size_t i = begin; i < end; i++) starts[class_of(run->codes[i]) + 1]++;
  for (size_t c = 1; c <= 256; c++) starts[c] += starts[c - 1];
  memcpy(run->scratch, run->codes + begin, (end - begin) * sizeof *run->codes);
  for (size_t i = 0; i < end - begin; i++)
    run->codes[begin + starts[class_of(run->scratch[i])]++] = run->scratch[i];
}

static void order(struct run *run)
{
  for (size_t i = 0; i < run->n;) {
    int last = class_of(run->codes[i]);
    size_t begin = i++;
    bool ordered = true;
    while (last > 0 && i < run->n) {
      int next = class_of(run->codes[i]);
      if (next == 0) break;
      ordered = ordered && next >= last;
      last = next;
      i++;
    }
    if (!ordered) order_marks(run, begin, i);
  }
}

/* Normalizes text[0 … bytes), which is UTF-8; returns the bytes written. */
static size_t normalize(struct run *run, const char *text, size_t bytes, char *out)
{
  run->n = 0;
  for (size_t i = 0; i < bytes;) {
    utf8proc_int32_t code;
    i += (size_t)utf8proc_iterate((const utf8proc_uint8_t *)text + i, (utf8proc_ssize_t)(bytes - i),
                                  &code);
    int boundary = 0;
    run->n += (size_t)utf8proc_decompose_char(code, run->codes + run->n, LONGEST_DECOMPOSITION,
                                              UTF8PROC_DECOMPOSE | UTF8PROC_STABLE, &boundary);
  }
  order(run);
  size_t n = (size_t)utf8proc_normalize_utf32(run->codes, (utf8proc_ssize_t)run->n,
                                              UTF8PROC_COMPOSE | UTF8PROC_STABLE);
  size_t written = 0;
  for (size_t i = 0; i < n; i++)
    written += (size_t)utf8proc_encode_char(run->codes[i], (utf8proc_uint8_t *)out + written);
  return written;
}

static size_t normalize_runs(struct run *run, const char *text, size_t bytes, char *out)
{
  size_t written = 0, begin = 0, i = 0;
  while (i < bytes) {
    int length = xf_utf8_character(text + i, bytes - i);
    if (length > 0) {
      i += (size_t)length;
      continue;
    }
    written += normalize(run, text + begin, i - begin, out + written);
    out[written++] = text[i++];
    begin = i;
  }
  return written + normalize(run, text + begin, i - begin, out + written);
}

char *xf_nfc(const char *text, size_t bytes, size_t *out_bytes)
{
  /* No character of one byte decomposes; others become at most twice as many as they have bytes
   * (U+1F82: three bytes, four characters). */
  size_t capacity = 2 * bytes + LONGEST_DECOMPOSITION;
  struct run run = {xf_alloc(capacity, sizeof *run.codes), xf_alloc(capacity, sizeof *run.codes),
                    0};
  char *out = xf_alloc(3 * bytes + 4, 1);
  if (run.codes && run.scratch && out) {
    *out_bytes = normalize_runs(&run, text, bytes, out);
  } else {
    xf_free(out);
    out = NULL;
  }
  xf_free(run.codes);
  xf_free(run.scratch);
  return out;
}
