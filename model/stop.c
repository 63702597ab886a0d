#include "model/stop.h"

#include <string.h>

#include "dispatch/error.h"
#include "dispatch/memory.h"
#include "dispatch/utf8.h"

xf_status xf_stop_init(struct xf_stop *stop, const char *const *strings, size_t n, size_t most,
                       xf_error *error)
{
  *stop = (struct xf_stop){.n = n};
  size_t all = 0;
  if (n && !strings) return xf_fail(error, XF_E_ARGUMENT, "stop is NULL, n_stop is %zu", n);
  for (size_t i = 0; i < n; i++) {
    size_t bytes = strings[i] ? strlen(strings[i]) : 0;
    if (bytes == 0) return xf_fail(error, XF_E_ARGUMENT, "stop: string %zu is empty", i);
    if (!xf_utf8_valid(strings[i], bytes))
      return xf_fail(error, XF_E_ARGUMENT, "stop: string %zu is not UTF-8", i);
    all += bytes + 1;
    if (bytes - 1 > stop->most_held) stop->most_held = bytes - 1;
  }
  stop->strings = xf_alloc(all, 1);
  stop->back = xf_alloc(stop->most_held, 1);
  stop->text = xf_alloc(stop->most_held + most + 1, 1);
  if (!stop->strings || !stop->back || !stop->text) {
    xf_stop_free(stop);
    return xf_fail(error, XF_E_MEMORY, "out of memory for %zu stop strings", n);
  }
  char *to = stop->strings;
  for (size_t i = 0; i < n; i++) {
    size_t bytes = strlen(strings[i]) + 1;
    memcpy(to, strings[i], bytes);
    to += bytes;
  }
  return XF_OK;
}

void xf_stop_free(struct xf_stop *stop)
{
  xf_free(stop->strings);
  xf_free(stop->back);
  xf_free(stop->text);
  *stop = (struct xf_stop){0};
}

void xf_stop_reset(struct xf_stop *stop)
{
  stop->held = 0;
  stop->matched = false;
}

/* The bytes of the longest stop string that ends at `end`, or 0. */
static size_t complete_at(const struct xf_stop *stop, size_t end)
{
  size_t longest = 0, bytes;
  const char *s = stop->strings;
  for (size_t i = 0; i < stop->n; i++, s += bytes + 1) {
    bytes = strlen(s);
    if (bytes <= end && bytes > longest && memcmp(stop->text + end - bytes, s, bytes) == 0)
      longest = bytes;
  }
  return longest;
}

/* Whether a stop string begins with these bytes, and has more. */
static bool may_begin(const struct xf_stop *stop, const char *text, size_t n)
{
  const char *s = stop->strings;
  for (size_t i = 0; i < stop->n; i++, s += strlen(s) + 1)
    if (strlen(s) > n && memcmp(s, text, n) == 0) return true;
  return false;
}

/* Where the part of text[0 … n) begins that may become a stop string. */
static size_t hold_from(const struct xf_stop *stop, size_t n)
{
  size_t i = n - xf_min(n, stop->most_held);
  while (i < n && !may_begin(stop, stop->text + i, n - i)) i++;
  return i;
}

void xf_stop_push(struct xf_stop *stop, const char *utf8, size_t n, bool last, const char **out,
                  size_t *bytes)
{
  *out = "";
  *bytes = 0;
  if (stop->matched) return;
  size_t all = stop->held + n, end = stop->held, match = 0;
  memcpy(stop->text, stop->back, stop->held);
  memcpy(stop->text + stop->held, utf8, n);
  while (end < all && match == 0) match = complete_at(stop, ++end);
  stop->matched = match > 0;
  size_t cut = match ? end - match : last ? all : hold_from(stop, all);
  stop->held = match ? 0 : all - cut;
  memcpy(stop->back, stop->text + cut, stop->held);
  stop->text[cut] = '\0';
  *out = stop->text;
  *bytes = cut;
}
