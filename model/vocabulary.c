#include "model/vocabulary.h"

#include <string.h>

#include "dispatch/error.h"
#include "dispatch/memory.h"

/* FNV-1a (Fowler, Noll & Vo). */
static size_t hash(const char *spelling, size_t bytes)
{
  uint64_t h = 0xCBF29CE484222325u;
  for (size_t i = 0; i < bytes; i++) h = (h ^ (unsigned char)spelling[i]) * 0x100000001B3u;
  return (size_t)(h ^ h >> 32);
}

/* The slot that holds the spelling, or the free one where it belongs. */
static size_t find_slot(const struct xf_tokenizer *tokenizer, const char *spelling, size_t bytes)
{
  for (size_t slot = hash(spelling, bytes);; slot++) {
    slot &= tokenizer->slot_mask;
    int32_t id = tokenizer->slots[slot];
    if (id < 0) return slot;
    const struct xf_piece *piece = &tokenizer->model.pieces[id];
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
  const struct xf_piece *piece = &tokenizer->model.pieces[id];
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
    if (here >= 0 && types >> tokenizer->model.pieces[here].type & 1) matched = i, *id = here;
    if (i == bytes) break;
    at = nodes[at].child;
    while (at && nodes[at].byte != (unsigned char)text[i]) at = nodes[at].sibling;
  }
  return matched;
}

/* The value of a BYTE piece, spelled "<0x0A>"; −1 where it is spelled otherwise. */
static int byte_value(const struct xf_piece *piece)
{
  static const char digits[] = "0123456789ABCDEF";
  const char *s = piece->spelling;
  if (piece->bytes != 6 || memcmp(s, "<0x", 3) != 0 || s[5] != '>') return -1;
  const char *high = memchr(digits, s[3], 16), *low = memchr(digits, s[4], 16);
  return high && low ? (int)(high - digits) * 16 + (int)(low - digits) : -1;
}

/* Writes what the piece adds to a text; returns its bytes. */
static uint32_t write_text(const struct xf_piece *piece, char *out)
{
  uint32_t n = 0;
  switch (piece->type) {
  case XF_PIECE_BYTE:
    out[n++] = (char)byte_value(piece);
    break;
  case XF_PIECE_NORMAL:
  case XF_PIECE_USER_DEFINED:
    for (uint32_t i = 0; i < piece->bytes; n++) {
      bool space = piece->bytes - i >= XF_SPACE_MARK_BYTES &&
                   memcmp(piece->spelling + i, XF_SPACE_MARK, XF_SPACE_MARK_BYTES) == 0;
      out[n] = space ? ' ' : piece->spelling[i];
      i += space ? XF_SPACE_MARK_BYTES : 1;
    }
    break;
  case XF_PIECE_CONTROL:
  case XF_PIECE_UNKNOWN:
    break; /* silent */
  }
  return n;
}

/* A space mark anywhere but in the run of them at the beginning. */
static bool has_inner_space(const struct xf_piece *piece)
{
  uint32_t i = 0;
  while (piece->bytes - i >= XF_SPACE_MARK_BYTES &&
         memcmp(piece->spelling + i, XF_SPACE_MARK, XF_SPACE_MARK_BYTES) == 0)
    i += XF_SPACE_MARK_BYTES;
  return memmem(piece->spelling + i, piece->bytes - i, XF_SPACE_MARK, XF_SPACE_MARK_BYTES) != NULL;
}

static xf_status twice(const char *path, const struct xf_piece *piece, int32_t id, xf_error *error)
{
  return xf_fail(error, XF_E_FORMAT, "%s: piece %d: pieces.piece \"%.*s\" is there twice", path,
                 (int)id, (int)xf_min(piece->bytes, 100), piece->spelling);
}

static xf_status add_piece(const char *path, struct xf_tokenizer *tokenizer, int32_t id,
                           xf_error *error)
{
  const struct xf_piece *piece = &tokenizer->model.pieces[id];
  if (piece->type == XF_PIECE_BYTE) {
    int value = byte_value(piece);
    if (value < 0)
      return xf_fail(error, XF_E_FORMAT,
                     "%s: piece %d: pieces.piece of a BYTE is not spelled as <0x41> is", path,
                     (int)id);
    if (tokenizer->byte_ids[value] >= 0) return twice(path, piece, id, error);
    tokenizer->byte_ids[value] = id;
    return XF_OK;
  }
  if (piece->type != XF_PIECE_NORMAL && !trie_add(tokenizer, id))
    return twice(path, piece, id, error);
  if (piece->type == XF_PIECE_CONTROL || piece->type == XF_PIECE_UNKNOWN) return XF_OK;
  size_t slot = find_slot(tokenizer, piece->spelling, piece->bytes);
  if (tokenizer->slots[slot] >= 0) return twice(path, piece, id, error);
  tokenizer->slots[slot] = id;
  if (piece->bytes > tokenizer->longest_spelling) tokenizer->longest_spelling = piece->bytes;
  if (piece->type == XF_PIECE_NORMAL && has_inner_space(piece)) tokenizer->words_apart = false;
  return XF_OK;
}

/* Sizes never overflow: there are fewer pieces, and fewer bytes in all of them, than the file has,
 * which is at most XF_TEXT_LIMIT. */
static bool allocate(struct xf_tokenizer *tokenizer)
{
  const struct xf_sentencepiece *model = &tokenizer->model;
  size_t text_bytes = 0, trie_nodes = 1, slots = 2;
  for (size_t i = 0; i < model->n; i++) {
    text_bytes += model->pieces[i].bytes;
    if (XF_SPECIAL >> model->pieces[i].type & 1) trie_nodes += model->pieces[i].bytes;
  }
  while (slots < 2 * model->n) slots *= 2;
  tokenizer->slot_mask = slots - 1;
  tokenizer->slots = xf_alloc(slots, sizeof *tokenizer->slots);
  tokenizer->trie = xf_alloc(trie_nodes, sizeof *tokenizer->trie);
  tokenizer->texts = xf_alloc(text_bytes, 1);
  tokenizer->text_ends = xf_alloc(model->n, sizeof *tokenizer->text_ends);
  if (!tokenizer->slots || !tokenizer->trie || !tokenizer->texts || !tokenizer->text_ends)
    return false;
  memset(tokenizer->slots, 0xFF, slots * sizeof *tokenizer->slots); /* −1 */
  tokenizer->trie[0] = (struct xf_trie_node){.id = -1};
  tokenizer->trie_nodes = 1;
  return true;
}

static int32_t find_control(const struct xf_tokenizer *tokenizer, const struct xf_piece *name)
{
  int32_t id = -1;
  size_t matched =
      xf_vocabulary_match(tokenizer, name->spelling, name->bytes, 1u << XF_PIECE_CONTROL, &id);
  return matched == name->bytes ? id : -1;
}

xf_status xf_vocabulary_build(const char *path, size_t bytes, struct xf_tokenizer *tokenizer,
                              xf_error *error)
{
  struct xf_sentencepiece *model = &tokenizer->model;
  xf_status status = xf_sentencepiece_parse(path, tokenizer->file, bytes, model, error);
  if (status != XF_OK) return status;
  if (!allocate(tokenizer))
    return xf_fail(error, XF_E_MEMORY, "%s: out of memory for %zu pieces", path, model->n);
  for (int i = 0; i < 256; i++) tokenizer->byte_ids[i] = -1;
  tokenizer->words_apart = true;
  uint32_t end = 0;
  for (size_t i = 0; i < model->n; i++) {
    status = add_piece(path, tokenizer, (int32_t)i, error);
    if (status != XF_OK) return status;
    uint32_t text = write_text(&model->pieces[i], tokenizer->texts + end);
    if (text > tokenizer->longest_text) tokenizer->longest_text = text;
    tokenizer->text_ends[i] = end += text;
  }
  for (int i = 0; i < 256; i++)
    if (tokenizer->byte_ids[i] < 0)
      return xf_fail(error, XF_E_FORMAT,
                     "%s: pieces has no BYTE <0x%02X>, though trainer_spec.byte_fallback is true",
                     path, (unsigned)i);
  tokenizer->bos = find_control(tokenizer, &model->bos);
  tokenizer->eos = find_control(tokenizer, &model->eos);
  return XF_OK;
}

void xf_vocabulary_free(struct xf_tokenizer *tokenizer)
{
  xf_sentencepiece_free(&tokenizer->model);
  xf_free(tokenizer->slots);
  xf_free(tokenizer->trie);
  xf_free(tokenizer->texts);
  xf_free(tokenizer->text_ends);
}

void xf_vocabulary_text(const struct xf_tokenizer *tokenizer, int32_t id, bool *at_start,
                        const char **text, size_t *bytes)
{
  const struct xf_sentencepiece *model = &tokenizer->model;
  uint32_t begin = id ? tokenizer->text_ends[id - 1] : 0, end = tokenizer->text_ends[id];
  /* The space that encoding puts in front of a text is taken away again, as SentencePiece does it:
   * one, or all where the model removes extra spaces. A byte is never taken away. */
  bool drops = model->add_dummy_prefix || model->remove_extra_whitespaces;
  if (*at_start && drops && begin < end && tokenizer->texts[begin] == ' ' &&
      model->pieces[id].type != XF_PIECE_BYTE) {
    begin++;
    if (!model->remove_extra_whitespaces) *at_start = false;
  }
  if (begin < end) *at_start = false;
  *text = tokenizer->texts + begin;
  *bytes = end - begin;
}
