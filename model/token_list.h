/* What a tokenizer's file says, whichever kind of file it is: sentencepiece.c, tokenizer_json.c and
 * tokenizer_gguf.c fill it, vocabulary.c makes it ready for look-up. */
#ifndef XF_MODEL_TOKEN_LIST_H
#define XF_MODEL_TOKEN_LIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "model/split.h"

/* U+2581, which stands for a space in the spelling of a piece. */
#define XF_SPACE_MARK "\xE2\x96\x81"
enum { XF_SPACE_MARK_BYTES = sizeof XF_SPACE_MARK - 1 };

static inline bool xf_begins_with_space_mark(const char *text, size_t bytes)
{
  return bytes >= XF_SPACE_MARK_BYTES && memcmp(text, XF_SPACE_MARK, XF_SPACE_MARK_BYTES) == 0;
}

/* The limit of a text and of all spellings together, so that offsets into them (a space becomes
 * three bytes) fit in 32 bits. */
#define XF_TEXT_LIMIT ((size_t)1 << 30)

/* As SentencePiece and GGUF number them. */
enum xf_piece_type {
  XF_PIECE_NORMAL = 1,
  XF_PIECE_UNKNOWN = 2,
  XF_PIECE_CONTROL = 3,
  XF_PIECE_USER_DEFINED = 4,
  XF_PIECE_UNUSED = 5, /* never in a text */
  XF_PIECE_BYTE = 6
};

struct xf_piece {
  const char *spelling; /* UTF-8, not NUL-terminated, empty only where UNUSED */
  uint32_t bytes;
  enum xf_piece_type type;
  float score; /* not NaN */
};

/* Two pieces that are merged, as they are spelled. */
struct xf_merge_text {
  const char *left, *right;
  uint32_t left_bytes, right_bytes;
};

/* How text becomes tokens and back. */
struct xf_token_rules {
  /* Pieces are spelled with a letter for each byte (Radford et al. 2019) and merges stay inside of
   * the words that `split` makes of a text. Else spaces are space marks, the text is one piece of
   * work, and BYTE pieces stand for what no other piece spells. */
  bool byte_level;
  enum xf_split split;
  bool nfc;           /* text is normalized to Unicode's form C first */
  bool ignore_merges; /* a word that is a piece is that piece, whatever the merges say */

  /* Space marks only. */
  bool dummy_prefix;             /* a space is put in front of a text … */
  bool prefix_at_start_only;     /* … but not behind a special token */
  bool prefix_unless_space;      /* … but not where one is there already */
  bool remove_extra_whitespaces; /* at both ends, and of several all but one */
  bool drops_space;              /* decoding takes the space in front away again */

  /* USER_DEFINED pieces are cut out of a text before anything else is done with it, as special
   * tokens are, and not found in what normalization leaves. */
  bool user_defined_apart;
  int32_t bos, eos; /* −1: none */
  bool adds_bos;    /* a prompt begins with BOS */
};

struct xf_token_list {
  struct xf_piece *pieces; /* [n], by id; the spellings lie in what was read */
  size_t n;
  struct xf_merge_text *merges; /* [n_merges], the first is made first; in what was read */
  size_t n_merges;
  bool by_score; /* there are no merges: neighbours whose concatenation is a piece are merged */
  struct xf_token_rules rules;
};

void xf_token_list_free(struct xf_token_list *list); /* an empty one is allowed */

/* The id of the first piece of that spelling whose type's bit is in types; −1: none. */
int32_t xf_token_list_find(const struct xf_token_list *list, const char *spelling, size_t bytes,
                           unsigned types);

/* The value of a BYTE piece, spelled "<0x0A>"; −1 where it is spelled otherwise. */
int xf_byte_piece_value(const char *spelling, size_t bytes);

/* "LEFT RIGHT" in its parts; false where there is no single space in the middle. */
bool xf_merge_parse(const char *text, size_t bytes, struct xf_merge_text *out);

#endif
