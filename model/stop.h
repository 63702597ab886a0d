/* Stop strings in a stream of text, whatever the borders at which it comes.
 *
 * The first stop string to be complete ends the text, as if it came byte by byte; of those that are
 * complete at the same byte, the longest. Nothing of it comes out, and so text is held back for as
 * long as it may be the beginning of one. */
#ifndef XF_MODEL_STOP_H
#define XF_MODEL_STOP_H

#include <stdbool.h>
#include <stddef.h>

#include "exactflash/status.h"

struct xf_stop {
  char *strings; /* one behind the other, each with its NUL */
  size_t n;
  size_t most_held; /* bytes of the longest string but one: 0 without strings */
  char *back;       /* [most_held], the first `held` bytes are held back */
  size_t held;
  char *text;   /* [most_held + longest piece + 1] */
  bool matched; /* since the last reset: nothing comes out any more */
};

/* strings: [n], of which there may be none. most: bytes of the longest piece. XF_E_ARGUMENT,
 * XF_E_MEMORY. */
xf_status xf_stop_init(struct xf_stop *stop, const char *const *strings, size_t n, size_t most,
                       xf_error *error);
void xf_stop_free(struct xf_stop *stop); /* leaves it empty; an empty one is allowed */

/* The next piece of text; *out are the *bytes bytes that come out, NUL-terminated, valid until the
 * next call. After the last piece nothing is held back any more. */
void xf_stop_push(struct xf_stop *stop, const char *utf8, size_t n, bool last, const char **out,
                  size_t *bytes);
/* A new text begins. */
void xf_stop_reset(struct xf_stop *stop);

#endif
