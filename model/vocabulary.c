#include "model/vocabulary.h"

#include <string.h>

#include "dispatch/error.h"
#include "dispatch/memory.h"
#include "model/fnv.h"

static size_t hash(const char *spelling, size_t bytes)
{
  uint64_t h = xf_fnv(XF_FNV_BEGIN, spelling, bytes);
  return (size_t)(h ^ h >> 32);
}

/* The slot that holds the spelling, or the free one where it belongs. */
static size_t find_slot(const struct xf_tokenizer *tokenizer, const char *spelling, size_t bytes)
{
  for (size_t slot = hash(spelling, bytes);; slot++) {
    slot &= tokenizer->slot_mask;
    int32_t id = tokenizer->slots[slot];
    if (id < 0) return slot;
    const struct xf_piece *piece = &tokenizer->pieces[id];
    if (piece->bytes == bytes && memcmp(piece->spelling, spelling, bytes) == 0) return slot;
  }
}

int32_t xf_vocabulary_find(const struct xf_tokenizer *tokenizer, const char *spelling, size_t bytes)
{
  if (bytes > tokenizer->longest_spelling) return -1;
  return tokenizer->slots[find_slot(tokenizer, spelling, bytes)];
}

/* Adds a piece to the trie. False: it is there already. */
static bool trie_add(struct xf_tokenizer *tokenizer, int32_t id)
{
  const struct xf_piece *piece = &tokenizer->pieces[id];
  struct xf_trie_node *nodes = tokenizer->trie;
  uint32_t at = 0;
  for (uint32_t i = 0; i < piece->bytes; i++) {
    unsigned char byte = (unsigned char)piece->spelling[i];
    uint32_t *link = i == 0 ? &tokenizer->trie_roots[byte] : &nodes[at].child;
    while (*link && nodes[*link].byte != byte) link = &nodes[*link].sibling;
    if (*link == 0) {
      *link = tokenizer->trie_nodes++;
      nodes[*link] = (struct xf_trie_node){.id = -1, .byte = byte};
    }
    at = *link;
  }
  if (nodes[at].id >= 0) return false;
  nodes[at].id = id;
  return true;
}

size_t xf_vocabulary_match(const struct xf_tokenizer *tokenizer, const char *text, size_t bytes,
                           unsigned types, int32_t *id)
{
  const struct xf_trie_node *nodes = tokenizer->trie;
  size_t matched = 0;
  uint32_t at = bytes ? tokenizer->trie_roots[(unsigned char)text[0]] : 0;
  for (size_t i = 1; at; i++) {
    int32_t here = nodes[at].id;
    if (here >= 0 && types >> tokenizer->pieces[here].type & 1) matched = i, *id = here;
    if (i == bytes) break;
    at = nodes[at].child;
    while (at && nodes[at].byte != (unsigned char)text[i]) at = nodes[at].sibling;
  }
  return matched;
}

/* Writes what the piece adds to a text; returns its bytes. */
static uint32_t write_text(const struct xf_piece *piece, bool byte_level, char *out)
{
  uint32_t n = 0;
  switch (piece->type) {
  case XF_PIECE_BYTE: out[n++] = (char)xf_byte_piece_value(piece->spelling, piece->bytes); break;
  case XF_PIECE_NORMAL:
  case XF_PIECE_USER_DEFINED:
    for (uint32_t i = 0; i < piece->bytes; n++) {
      bool space = !byte_level && xf_begins_with_space_mark(piece->spelling + i, piece->bytes - i);
      out[n] = space ? ' ' : piece->spelling[i];
      i += space ? XF_SPACE_MARK_BYTES : 1;
    }
    break;
  case XF_PIECE_CONTROL:
  case XF_PIECE_UNKNOWN:
  case XF_PIECE_UNUSED: break; /* silent */
  }
  return n;
}

/* A space mark anywhere but in the run of them at the beginning. */
static bool has_inner_space(const struct xf_piece *piece)
{
  uint32_t i = 0;
  while (xf_begins_with_space_mark(piece->spelling + i, piece->bytes - i)) i += XF_SPACE_MARK_BYTES;
  return memmem(piece->spelling + i, piece->bytes - i, XF_SPACE_MARK, XF_SPACE_MARK_BYTES) != NULL;
}

static xf_status twice(const char *path, const struct xf_piece *piece, int32_t id, xf_error *error)
{
  return xf_fail(error, XF_E_FORMAT, "%s: token %d: its spelling \"%.*s\" is there twice", path,
                 (int)id, (int)xf_min(piece->bytes, 100), piece->spelling);
}

static xf_status add_byte(const char *path, struct xf_tokenizer *tokenizer, int32_t id,
                          xf_error *error)
{
  const struct xf_piece *piece = &tokenizer->pieces[id];
  int value = xf_byte_piece_value(piece->spelling, piece->bytes);
  if (value < 0)
    return xf_fail(error, XF_E_FORMAT,
                   "%s: token %d: the spelling of a BYTE is not spelled as <0x41> is", path,
                   (int)id);
  if (tokenizer->byte_ids[value] >= 0) return twice(path, piece, id, error);
  tokenizer->byte_ids[value] = id;
  return XF_OK;
}

static xf_status add_piece(const char *path, struct xf_tokenizer *tokenizer, int32_t id,
                           xf_error *error)
{
  const struct xf_piece *piece = &tokenizer->pieces[id];
  if (piece->type == XF_PIECE_UNUSED) return XF_OK;
  if (piece->type == XF_PIECE_BYTE) return add_byte(path, tokenizer, id, error);
  if (piece->type != XF_PIECE_NORMAL && !trie_add(tokenizer, id))
    return twice(path, piece, id, error);
  if (piece->type == XF_PIECE_CONTROL || piece->type == XF_PIECE_UNKNOWN) return XF_OK;
  size_t slot = find_slot(tokenizer, piece->spelling, piece->bytes);
  if (tokenizer->slots[slot] >= 0) return twice(path, piece, id, error);
  tokenizer->slots[slot] = id;
  if (piece->bytes > tokenizer->longest_spelling) tokenizer->longest_spelling = piece->bytes;
  if (tokenizer->rules.byte_level) {
    if (piece->bytes == 1) tokenizer->byte_ids[(unsigned char)piece->spelling[0]] = id;
  } else if (piece->type == XF_PIECE_NORMAL && has_inner_space(piece)) {
    tokenizer->words_apart = false;
  }
  return XF_OK;
}

int32_t *xf_slots_create(size_t n, size_t *mask)
{
  size_t slots = 2;
  while (slots < 2 * n) slots *= 2;
  *mask = slots - 1;
  int32_t *free_slots = xf_alloc(slots, sizeof *free_slots);
  if (free_slots) memset(free_slots, 0xFF, slots * sizeof *free_slots);
  return free_slots;
}

static xf_status allocate(const char *path, const struct xf_token_list *list,
                          struct xf_tokenizer *tokenizer, xf_error *error)
{
  size_t bytes = 0, trie_nodes = 1;
  for (size_t i = 0; i < list->n && bytes <= XF_TEXT_LIMIT; i++) {
    bytes += list->pieces[i].bytes;
    if (XF_SPECIAL >> list->pieces[i].type & 1) trie_nodes += list->pieces[i].bytes;
  }
  if (bytes > XF_TEXT_LIMIT || list->n > XF_TEXT_LIMIT)
    return xf_fail(error, XF_E_UNSUPPORTED, "%s: more than 1 GiB of tokens", path);
  tokenizer->slots = xf_slots_create(list->n, &tokenizer->slot_mask);
  tokenizer->trie = xf_alloc(trie_nodes, sizeof *tokenizer->trie);
  tokenizer->pieces = xf_alloc(list->n, sizeof *tokenizer->pieces);
  tokenizer->spellings = xf_alloc(bytes, 1);
  tokenizer->texts = xf_alloc(bytes, 1);
  tokenizer->text_ends = xf_alloc(list->n, sizeof *tokenizer->text_ends);
  if (!tokenizer->slots || !tokenizer->trie || !tokenizer->pieces || !tokenizer->spellings ||
      !tokenizer->texts || !tokenizer->text_ends)
    return xf_fail(error, XF_E_MEMORY, "%s: out of memory for %zu pieces", path, list->n);
  memset(tokenizer->byte_ids, 0xFF, sizeof tokenizer->byte_ids); /* −1 */
  tokenizer->trie[0] = (struct xf_trie_node){.id = -1};
  tokenizer->trie_nodes = 1;
  return XF_OK;
}

/* A copy of the piece; on the byte level its spelling becomes the bytes that it stands for. False:
 * it stands for none, so that no text has it and it is shown as it is spelled. */
static bool copy_piece(const struct xf_piece *from, bool byte_level, char *out, struct xf_piece *to)
{
  *to = *from;
  to->spelling = out;
  bool coded = byte_level && from->type == XF_PIECE_NORMAL;
  if (coded && xf_byte_level_decode(from->spelling, from->bytes, out, &to->bytes)) return true;
  if (from->bytes) memcpy(out, from->spelling, from->bytes);
  return !coded;
}

xf_status xf_vocabulary_build(const char *path, const struct xf_token_list *list,
                              struct xf_tokenizer *tokenizer, xf_error *error)
{
  xf_status status = allocate(path, list, tokenizer, error);
  if (status != XF_OK) return status;
  tokenizer->rules = list->rules;
  tokenizer->by_score = list->by_score;
  tokenizer->words_apart = true;
  tokenizer->n = list->n;
  bool byte_level = list->rules.byte_level;
  uint32_t spelling_end = 0, text_end = 0;
  for (size_t i = 0; i < list->n; i++) {
    struct xf_piece *piece = &tokenizer->pieces[i];
    if (copy_piece(&list->pieces[i], byte_level, tokenizer->spellings + spelling_end, piece))
      status = add_piece(path, tokenizer, (int32_t)i, error);
    if (status != XF_OK) return status;
    spelling_end += piece->bytes;
    uint32_t text = write_text(piece, byte_level, tokenizer->texts + text_end);
    if (text > tokenizer->longest_text) tokenizer->longest_text = text;
    tokenizer->text_ends[i] = text_end += text;
  }
  for (int i = 0; i < 256 && !byte_level; i++)
    if (tokenizer->byte_ids[i] < 0)
      return xf_fail(error, XF_E_FORMAT,
                     "%s: the vocabulary has no BYTE <0x%02X>, which byte fallback needs", path,
                     (unsigned)i);
  if (byte_level) status = xf_splitter_create(list->rules.split, &tokenizer->splitter, error);
  return status ? status : xf_merges_build(path, list, tokenizer, error);
}

void xf_vocabulary_free(struct xf_tokenizer *tokenizer)
{
  xf_splitter_destroy(tokenizer->splitter);
  xf_free(tokenizer->pieces);
  xf_free(tokenizer->spellings);
  xf_free(tokenizer->slots);
  xf_free(tokenizer->trie);
  xf_free(tokenizer->texts);
  xf_free(tokenizer->text_ends);
  xf_free(tokenizer->merges);
  xf_free(tokenizer->merge_slots);
}

void xf_vocabulary_text(const struct xf_tokenizer *tokenizer, int32_t id, bool *at_start,
                        const char **text, size_t *bytes)
{
  const struct xf_token_rules *rules = &tokenizer->rules;
  uint32_t begin = id ? tokenizer->text_ends[id - 1] : 0, end = tokenizer->text_ends[id];
  /* The space that encoding puts in front of a text is taken away again, as SentencePiece does it:
   * one, or all where the model removes extra spaces. A byte is never taken away. */
  if (*at_start && rules->drops_space && begin < end && tokenizer->texts[begin] == ' ' &&
      tokenizer->pieces[id].type != XF_PIECE_BYTE) {
    begin++;
    if (!rules->remove_extra_whitespaces) *at_start = false;
  }
  if (begin < end) *at_start = false;
  *text = tokenizer->texts + begin;
  *bytes = end - begin;
}
