/* A vocabulary made ready for look-up: what tokenizer.c, bpe.c and decoder.c share. */
#ifndef XF_MODEL_VOCABULARY_H
#define XF_MODEL_VOCABULARY_H

#include "exactflash/tokenizer.h"
#include "model/token_list.h"

/* A node of the trie over the spellings that are looked for inside a text. */
struct xf_trie_node {
  uint32_t child, sibling; /* 0: none */
  int32_t id;              /* of the piece that ends here, or −1 */
  unsigned char byte;
};

struct xf_merge {
  int32_t left, right, id;
};

struct xf_tokenizer {
  struct xf_token_rules rules;
  struct xf_splitter *splitter; /* byte level only */
  /* By id. The spellings are the tokenizer's own, on the byte level in bytes. */
  struct xf_piece *pieces; /* [n] */
  size_t n;
  char *spellings;
  int32_t byte_ids[256]; /* of the pieces that are one byte; −1: there is none */

  /* What each piece adds to a text: id's is texts[text_ends[id − 1] … text_ends[id]). */
  char *texts;
  uint32_t *text_ends;
  uint32_t longest_text;

  /* NORMAL and USER_DEFINED pieces by spelling: open addressing, at most half full. */
  int32_t *slots; /* [slot_mask + 1] ids, −1: free */
  size_t slot_mask;
  uint32_t longest_spelling;
  /* No NORMAL piece has a space mark after another character, so that merges never cross the
   * beginning of a word. */
  bool words_apart;

  /* Merges by their two ids, in the same manner. */
  struct xf_merge *merges; /* [n_merges], by rank */
  size_t n_merges;
  int32_t *merge_slots; /* [merge_mask + 1] ranks, −1: free */
  size_t merge_mask;
  bool by_score; /* no merges: any two whose concatenation is a piece, by its score */

  /* CONTROL, UNKNOWN and USER_DEFINED pieces. */
  struct xf_trie_node *trie; /* [trie_nodes]; node 0 is no node */
  uint32_t trie_nodes;
  uint32_t trie_roots[256]; /* by first byte */
};

static inline bool xf_in_vocabulary(const struct xf_tokenizer *tokenizer, int32_t id)
{
  return id >= 0 && (size_t)id < tokenizer->n;
}

/* Fills *tokenizer (zeroed by the caller) from a list, of which it keeps nothing; path is for
 * messages. On failure xf_vocabulary_free is still to be called. */
xf_status xf_vocabulary_build(const char *path, const struct xf_token_list *list,
                              struct xf_tokenizer *tokenizer, xf_error *error);
void xf_vocabulary_free(struct xf_tokenizer *tokenizer);

/* The id of the NORMAL or USER_DEFINED piece of that spelling, or −1. */
int32_t xf_vocabulary_find(const struct xf_tokenizer *tokenizer, const char *spelling,
                           size_t bytes);

/* Slots for n entries, all free (−1), and their count as a mask. NULL: out of memory. */
int32_t *xf_slots_create(size_t n, size_t *mask);

/* The merges of a list, as ids. The pieces are there already. */
xf_status xf_merges_build(const char *path, const struct xf_token_list *list,
                          struct xf_tokenizer *tokenizer, xf_error *error);
/* The rank of the merge of two pieces, or −1: they stay apart. */
int32_t xf_merges_find(const struct xf_tokenizer *tokenizer, int32_t left, int32_t right);

/* Writes the bytes that a spelling of letters for bytes stands for (never more than it has);
 * returns their count. false: it holds another character. */
bool xf_byte_level_decode(const char *spelling, size_t bytes, char *out, uint32_t *count);
/* The other way round: the letters of bytes, at most two bytes each; returns their count. */
size_t xf_byte_level_encode(const char *bytes, size_t n, char *out);

enum { XF_USER_DEFINED = 1u << XF_PIECE_USER_DEFINED };
enum { XF_SPECIAL = 1u << XF_PIECE_CONTROL | 1u << XF_PIECE_UNKNOWN | XF_USER_DEFINED };

/* The longest piece of the trie that is a prefix of text and whose type's bit is in types: its
 * bytes (0: there is none) and *id. */
size_t xf_vocabulary_match(const struct xf_tokenizer *tokenizer, const char *text, size_t bytes,
                           unsigned types, int32_t *id);

/* What the piece adds to a text that so far has (*at_start false) or has not visible pieces. */
void xf_vocabulary_text(const struct xf_tokenizer *tokenizer, int32_t id, bool *at_start,
                        const char **text, size_t *bytes);

/* The most bytes that a decoder of this tokenizer gives at once. */
size_t xf_decoder_most(const struct xf_tokenizer *tokenizer);

#endif
