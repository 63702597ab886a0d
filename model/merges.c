/* The merges of a vocabulary that brings them, and the letters for bytes in which byte-level BPE
 * spells them (Radford et al. 2019). */
#include <string.h>

#include "dispatch/error.h"
#include "dispatch/memory.h"
#include "dispatch/utf8.h"
#include "model/vocabulary.h"

/* Whether Latin-1 has a visible character for it. */
static bool is_visible(unsigned byte)
{
  return (byte > 0x20 && byte < 0x7F) || (byte > 0xA0 && byte <= 0xFF && byte != 0xAD);
}

/* The byte for which a character of one or two bytes is the letter, or −1. A byte that Latin-1 has
 * a visible character for is that character; the others, in order, are those from U+0100 on. */
static int letter_byte(const char *s, int bytes)
{
  unsigned code = (unsigned char)s[0];
  if (bytes == 2) code = (code & 0x1Fu) << 6 | ((unsigned char)s[1] & 0x3Fu);
  if (is_visible(code)) return (int)code;
  if (bytes != 2 || code < 0x100) return -1;
  unsigned rank = code - 0x100; /* among 00 … 20, 7F … A0 and AD */
  if (rank <= 0x20) return (int)rank;
  if (rank <= 0x42) return (int)(rank - 0x21 + 0x7F);
  return rank == 0x43 ? 0xAD : -1;
}

bool xf_byte_level_decode(const char *spelling, size_t bytes, char *out, uint32_t *count)
{
  uint32_t n = 0;
  for (size_t i = 0; i < bytes;) {
    int length = xf_utf8_character(spelling + i, bytes - i);
    int byte = length == 1 || length == 2 ? letter_byte(spelling + i, length) : -1;
    if (byte < 0) return false;
    out[n++] = (char)byte;
    i += (size_t)length;
  }
  *count = n;
  return true;
}

size_t xf_byte_level_encode(const char *bytes, size_t n, char *out)
{
  size_t length = 0;
  for (size_t i = 0; i < n; i++) {
    unsigned code = (unsigned char)bytes[i];
    if (!is_visible(code))
      code = 0x100 + (code <= 0x20 ? code : code == 0xAD ? 0x43 : code - 0x7F + 0x21);
    if (code >= 0x80) out[length++] = (char)(0xC0 | code >> 6);
    out[length++] = (char)(code >= 0x80 ? 0x80 | (code & 0x3F) : code);
  }
  return length;
}

static size_t hash(int32_t left, int32_t right)
{
  uint64_t h = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) * 0x9E3779B97F4A7C15u;
  return (size_t)(h ^ h >> 32);
}

/* The slot that holds the merge, or the free one where it belongs. */
static size_t find_slot(const struct xf_tokenizer *tokenizer, int32_t left, int32_t right)
{
  for (size_t slot = hash(left, right);; slot++) {
    slot &= tokenizer->merge_mask;
    int32_t rank = tokenizer->merge_slots[slot];
    if (rank < 0) return slot;
    const struct xf_merge *merge = &tokenizer->merges[rank];
    if (merge->left == left && merge->right == right) return slot;
  }
}

int32_t xf_merges_find(const struct xf_tokenizer *tokenizer, int32_t left, int32_t right)
{
  return tokenizer->merge_slots[find_slot(tokenizer, left, right)];
}

/* Where the spelling is that of a piece, its id; text has room for it. */
static int32_t find_piece(const struct xf_tokenizer *tokenizer, const char *spelling,
                          uint32_t bytes, char *text, uint32_t *text_bytes)
{
  *text_bytes = bytes;
  if (!tokenizer->rules.byte_level)
    memcpy(text, spelling, bytes);
  else if (!xf_byte_level_decode(spelling, bytes, text, text_bytes))
    return -1;
  return xf_vocabulary_find(tokenizer, text, *text_bytes);
}

/* scratch has room for the whole merge. */
static xf_status add_merge(const char *path, const struct xf_merge_text *text,
                           struct xf_tokenizer *tokenizer, char *scratch, xf_error *error)
{
  uint32_t left_bytes, right_bytes;
  struct xf_merge merge = {.id = -1};
  merge.left = find_piece(tokenizer, text->left, text->left_bytes, scratch, &left_bytes);
  merge.right =
      find_piece(tokenizer, text->right, text->right_bytes, scratch + left_bytes, &right_bytes);
  if (merge.left >= 0 && merge.right >= 0)
    merge.id = xf_vocabulary_find(tokenizer, scratch, (size_t)left_bytes + right_bytes);
  const char *fault = NULL;
  size_t slot = 0;
  if (merge.id < 0) {
    fault = "its parts and its result must be tokens";
  } else {
    slot = find_slot(tokenizer, merge.left, merge.right);
    if (tokenizer->merge_slots[slot] >= 0) fault = "it is there twice";
  }
  if (fault)
    return xf_fail(error, XF_E_FORMAT, "%s: merge %zu (\"%.*s %.*s\"): %s", path,
                   tokenizer->n_merges, (int)xf_min(text->left_bytes, 100), text->left,
                   (int)xf_min(text->right_bytes, 100), text->right, fault);
  tokenizer->merge_slots[slot] = (int32_t)tokenizer->n_merges;
  tokenizer->merges[tokenizer->n_merges++] = merge;
  return XF_OK;
}

xf_status xf_merges_build(const char *path, const struct xf_token_list *list,
                          struct xf_tokenizer *tokenizer, xf_error *error)
{
  if (list->by_score) return XF_OK;
  size_t longest = 0;
  if (list->n_merges > XF_TEXT_LIMIT)
    return xf_fail(error, XF_E_UNSUPPORTED, "%s: %zu merges are too many", path, list->n_merges);
  for (size_t i = 0; i < list->n_merges; i++) {
    size_t bytes = (size_t)list->merges[i].left_bytes + list->merges[i].right_bytes;
    if (bytes > longest) longest = bytes;
  }
  tokenizer->merge_slots = xf_slots_create(list->n_merges, &tokenizer->merge_mask);
  tokenizer->merges = xf_alloc(list->n_merges, sizeof *tokenizer->merges);
  char *scratch = xf_alloc(longest, 1);
  xf_status status = XF_OK;
  if (!tokenizer->merge_slots || !tokenizer->merges || !scratch)
    status = xf_fail(error, XF_E_MEMORY, "%s: out of memory for %zu merges", path, list->n_merges);
  for (size_t i = 0; status == XF_OK && i < list->n_merges; i++)
    status = add_merge(path, &list->merges[i], tokenizer, scratch, error);
  xf_free(scratch);
  return status;
}
