/* A SentencePiece BPE model (tokenizer.model) as read from its protobuf.
 * Source: Kudo & Richardson 2018; field numbers of sentencepiece_model.proto. */
#ifndef XF_MODEL_SENTENCEPIECE_H
#define XF_MODEL_SENTENCEPIECE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "exactflash/status.h"

/* U+2581, which stands for a space in the spelling of a piece. */
#define XF_SPACE_MARK "\xE2\x96\x81"
enum { XF_SPACE_MARK_BYTES = sizeof XF_SPACE_MARK - 1 };

/* The file's and a text's limit, so that offsets into them (a space becomes three bytes) fit in 32
 * bits. */
#define XF_TEXT_LIMIT ((size_t)1 << 30)

enum xf_piece_type {
  XF_PIECE_NORMAL = 1,
  XF_PIECE_UNKNOWN = 2,
  XF_PIECE_CONTROL = 3,
  XF_PIECE_USER_DEFINED = 4,
  XF_PIECE_BYTE = 6
};

struct xf_piece {
  const char *spelling; /* UTF-8, not NUL-terminated, never empty, in the file's bytes */
  uint32_t bytes;
  enum xf_piece_type type;
  float score; /* not NaN */
};

struct xf_sentencepiece {
  struct xf_piece *pieces; /* [n], by id */
  size_t n;
  bool add_dummy_prefix, remove_extra_whitespaces;
  struct xf_piece bos, eos; /* their spelling only */
};

/* data must outlive *out; bytes ≤ XF_TEXT_LIMIT; path is for messages. What would make the ids or
 * the text differ from SentencePiece's, were it ignored, is XF_E_UNSUPPORTED. */
xf_status xf_sentencepiece_parse(const char *path, const unsigned char *data, size_t bytes,
                                 struct xf_sentencepiece *out, xf_error *error);
void xf_sentencepiece_free(struct xf_sentencepiece *model);

#endif
