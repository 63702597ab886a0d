/* Source: Sennrich et al. 2016: of all neighbours that a merge is known for, those of the first
 * merge (and there the leftmost) are merged, until there are none; with the scores of Kudo &
 * Richardson 2018 every two whose concatenation is a piece are known, the highest score first. A
 * heap of the possible merges makes that O(n log n). */
#include "model/bpe.h"

#include <string.h>

#include "dispatch/memory.h"

#define NONE UINT32_MAX

struct symbol {
  uint32_t start, bytes; /* in the text; bytes is 0 once it is part of its left neighbour */
  uint32_t previous, next;
  int32_t id; /* −1: no piece, its bytes are tokens */
};

struct merge {
  uint32_t rank;               /* the lowest first */
  uint32_t left, right, bytes; /* bytes of both: tells a merge whose symbols have changed since */
  int32_t id;
};

/* The symbols of the word at hand. */
struct word {
  const struct xf_tokenizer *tokenizer;
  const char *text;
  struct symbol *symbols;
  size_t n, capacity;
  struct merge *heap;
  size_t n_heap, heap_capacity;
};

/* Whether a is merged before b. */
static bool before(const struct merge *a, const struct merge *b)
{
  return a->rank < b->rank || (a->rank == b->rank && a->left < b->left);
}

static void heap_push(struct word *word, struct merge merge)
{
  size_t at = word->n_heap++;
  while (at > 0) {
    size_t parent = (at - 1) / 2;
    if (!before(&merge, &word->heap[parent])) break;
    word->heap[at] = word->heap[parent];
    at = parent;
  }
  word->heap[at] = merge;
}

static struct merge heap_pop(struct word *word)
{
  struct merge top = word->heap[0], last = word->heap[--word->n_heap];
  size_t at = 0;
  for (;;) {
    size_t child = 2 * at + 1;
    if (child >= word->n_heap) break;
    if (child + 1 < word->n_heap && before(&word->heap[child + 1], &word->heap[child])) child++;
    if (!before(&word->heap[child], &last)) break;
    word->heap[at] = word->heap[child];
    at = child;
  }
  word->heap[at] = last;
  return top;
}

/* A rank that falls where the score rises: IEEE 754 numbers of one sign order as their bits do. */
static uint32_t rank_of_score(float score)
{
  float positive_zero = score + 0.0f; /* −0 ranks as 0 */
  uint32_t bits;
  memcpy(&bits, &positive_zero, sizeof bits);
  return bits >> 31 ? bits : ~bits & 0x7FFFFFFFu;
}

/* Puts the merge of two neighbours into the heap, if there is one. */
static void consider(struct word *word, uint32_t left, uint32_t right)
{
  if (left == NONE || right == NONE) return;
  const struct xf_tokenizer *tokenizer = word->tokenizer;
  const struct symbol *a = &word->symbols[left], *b = &word->symbols[right];
  uint32_t bytes = a->bytes + b->bytes;
  if (tokenizer->by_score) {
    int32_t id = xf_vocabulary_find(tokenizer, word->text + a->start, bytes);
    if (id < 0) return;
    uint32_t rank = rank_of_score(tokenizer->pieces[id].score);
    heap_push(word, (struct merge){rank, left, right, bytes, id});
  } else if (a->id >= 0 && b->id >= 0) {
    int32_t rank = xf_merges_find(tokenizer, a->id, b->id);
    if (rank < 0) return;
    heap_push(word, (struct merge){(uint32_t)rank, left, right, bytes, tokenizer->merges[rank].id});
  }
}

static void apply(struct word *word, const struct merge *merge)
{
  struct symbol *left = &word->symbols[merge->left], *right = &word->symbols[merge->right];
  if (left->bytes == 0 || right->bytes == 0 || left->bytes + right->bytes != merge->bytes) return;
  left->bytes = merge->bytes;
  left->id = merge->id;
  left->next = right->next;
  if (right->next != NONE) word->symbols[right->next].previous = merge->left;
  right->bytes = 0;
  consider(word, left->previous, merge->left);
  consider(word, merge->left, left->next);
}

/* Merges the symbols, appends their ids and leaves the word empty. */
static bool finish_word(struct word *word, struct xf_ids *out)
{
  if (word->n == 0) return true;
  /* n − 1 neighbours; each of at most n − 1 merges takes itself out and puts two in. */
  if (word->heap_capacity < 2 * word->n) {
    xf_free(word->heap);
    word->heap_capacity = 2 * word->capacity;
    word->heap = xf_alloc(word->heap_capacity, sizeof *word->heap);
    if (!word->heap) return false;
  }
  for (uint32_t i = 1; i < word->n; i++) consider(word, i - 1, i);
  while (word->n_heap > 0) {
    struct merge merge = heap_pop(word);
    apply(word, &merge);
  }
  for (uint32_t i = 0; i != NONE; i = word->symbols[i].next) {
    const struct symbol *symbol = &word->symbols[i];
    if (symbol->id >= 0) {
      xf_ids_push(out, symbol->id);
      continue;
    }
    for (uint32_t b = 0; b < symbol->bytes; b++) {
      unsigned char byte = (unsigned char)word->text[symbol->start + b];
      xf_ids_push(out, word->tokenizer->byte_ids[byte]);
      if (word->tokenizer->byte_ids[byte] < 0) out->lacking = byte;
    }
  }
  word->n = 0;
  return true;
}

static bool add_symbol(struct word *word, uint32_t start, uint32_t bytes, int32_t id)
{
  if (word->n == word->capacity) {
    size_t capacity = word->capacity ? 2 * word->capacity : 64;
    struct symbol *symbols = xf_alloc(capacity, sizeof *symbols);
    if (!symbols) return false;
    if (word->n) memcpy(symbols, word->symbols, word->n * sizeof *symbols);
    xf_free(word->symbols);
    word->symbols = symbols;
    word->capacity = capacity;
  }
  uint32_t index = (uint32_t)word->n++;
  if (index > 0) word->symbols[index - 1].next = index;
  word->symbols[index] = (struct symbol){start, bytes, index > 0 ? index - 1 : NONE, NONE, id};
  return true;
}

/* The bytes of the symbol at the beginning of text: those that its first byte announces, as far as
 * the text goes and no other character begins. So this is a character where the text is UTF-8, and
 * where it is not, it is no piece and its bytes become tokens. */
static uint32_t symbol_bytes(const char *text, size_t bytes)
{
  unsigned char lead = (unsigned char)text[0];
  size_t announced = lead < 0xC0 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  size_t n = 1;
  while (n < announced && n < bytes && (unsigned char)text[n] < 0xC0) n++;
  return (uint32_t)n;
}

static bool encode_marked(struct word *word, size_t bytes, struct xf_ids *out)
{
  const struct xf_tokenizer *tokenizer = word->tokenizer;
  unsigned found = tokenizer->rules.user_defined_apart ? 0 : XF_USER_DEFINED;
  bool after_space = true;
  for (size_t i = 0; i < bytes;) {
    const char *at = word->text + i;
    int32_t id;
    size_t matched = xf_vocabulary_match(tokenizer, at, bytes - i, found, &id);
    if (matched > 0) { /* a piece of its own, never merged */
      if (!finish_word(word, out)) return false;
      xf_ids_push(out, id);
      i += matched;
      continue;
    }
    uint32_t n = symbol_bytes(at, bytes - i);
    bool space = xf_begins_with_space_mark(at, n);
    if (space && !after_space && tokenizer->words_apart && !finish_word(word, out)) return false;
    int32_t piece = xf_vocabulary_find(tokenizer, at, n);
    if (!add_symbol(word, (uint32_t)i, n, piece)) return false;
    after_space = space;
    i += n;
  }
  return finish_word(word, out);
}

/* One of the words that the text is split into. */
static bool encode_word(struct word *word, size_t begin, size_t bytes, struct xf_ids *out)
{
  const struct xf_tokenizer *tokenizer = word->tokenizer;
  if (tokenizer->rules.ignore_merges) {
    int32_t id = xf_vocabulary_find(tokenizer, word->text + begin, bytes);
    if (id >= 0) {
      xf_ids_push(out, id);
      return true;
    }
  }
  for (size_t i = begin; i < begin + bytes; i++) {
    int32_t id = tokenizer->byte_ids[(unsigned char)word->text[i]];
    if (!add_symbol(word, (uint32_t)i, 1, id)) return false;
  }
  return finish_word(word, out);
}

static bool encode_words(struct word *word, size_t bytes, struct xf_ids *out)
{
  struct xf_words words;
  if (xf_words_begin(word->tokenizer->splitter, word->text, bytes, &words) != XF_OK) return false;
  size_t begin, length;
  bool done;
  do {
    done = xf_words_next(&words, &begin, &length) == XF_OK;
    if (done && length > 0) done = encode_word(word, begin, length, out);
  } while (done && length > 0);
  xf_words_end(&words);
  return done;
}

bool xf_bpe_encode(const struct xf_tokenizer *tokenizer, const char *text, size_t bytes,
                   struct xf_ids *out)
{
  struct word word = {.tokenizer = tokenizer, .text = text};
  bool done = tokenizer->rules.byte_level ? encode_words(&word, bytes, out)
                                          : encode_marked(&word, bytes, out);
  xf_free(word.symbols);
  xf_free(word.heap);
  return done;
}
