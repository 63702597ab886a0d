#include "model/token_list.h"

#include <string.h>

#include "dispatch/memory.h"

void xf_token_list_free(struct xf_token_list *list)
{
  xf_free(list->pieces);
  xf_free(list->merges);
  *list = (struct xf_token_list){0};
}

int32_t xf_token_list_find(const struct xf_token_list *list, const char *spelling, size_t bytes,
                           unsigned types)
{
  for (size_t i = 0; i < list->n; i++) {
    const struct xf_piece *piece = &list->pieces[i];
    if (types >> piece->type & 1 && piece->bytes == bytes &&
        memcmp(piece->spelling, spelling, bytes) == 0)
      return (int32_t)i;
  }
  return -1;
}

int xf_byte_piece_value(const char *spelling, size_t bytes)
{
  static const char digits[] = "0123456789ABCDEF";
  if (bytes != 6 || memcmp(spelling, "<0x", 3) != 0 || spelling[5] != '>') return -1;
  const char *high = memchr(digits, spelling[3], 16), *low = memchr(digits, spelling[4], 16);
  return high && low ? (int)(high - digits) * 16 + (int)(low - digits) : -1;
}

bool xf_merge_parse(const char *text, size_t bytes, struct xf_merge_text *out)
{
  const char *space = memchr(text, ' ', bytes);
  if (!space || bytes > XF_TEXT_LIMIT) return false;
  size_t left = (size_t)(space - text), right = bytes - left - 1;
  *out = (struct xf_merge_text){text, space + 1, (uint32_t)left, (uint32_t)right};
  return left > 0 && right > 0 && !memchr(out->right, ' ', right);
}
