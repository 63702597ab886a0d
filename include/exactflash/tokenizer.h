/* Text to ids and back, by byte pair encoding: SentencePiece's with byte fallback (Kudo &
 * Richardson 2018) and the byte-level one (Radford et al. 2019) of GPT-2, SmolLM2, Llama 3 and
 * Qwen2. */
#ifndef EXACTFLASH_TOKENIZER_H
#define EXACTFLASH_TOKENIZER_H

#include "exactflash/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A vocabulary and its rules. */
typedef struct xf_tokenizer xf_tokenizer;

/* path: a tokenizer.model, a tokenizer.json, a GGUF file (one with a vocabulary only will do), a
 * .tflite file beside which one of the first two lies, or a
 * folder that holds one of the first two, tokenizer.model being preferred. tokenizer.json names no
 * BOS and EOS: they are those of tokenizer_config.json beside it. Immutable and shareable by
 * threads. */
XF_API xf_status xf_tokenizer_open(const char *path, xf_tokenizer **out, xf_error *error);
XF_API void xf_tokenizer_close(xf_tokenizer *tokenizer); /* NULL is allowed */

/* Number of tokens. */
XF_API size_t xf_tokenizer_vocab_size(const xf_tokenizer *tokenizer);
XF_API int32_t xf_tokenizer_bos(const xf_tokenizer *tokenizer); /* −1: none */
XF_API int32_t xf_tokenizer_eos(const xf_tokenizer *tokenizer); /* −1: none */
/* Whether the model was made for prompts that begin with BOS (XF_ENCODE_BOS). */
XF_API int xf_tokenizer_adds_bos(const xf_tokenizer *tokenizer);

enum {
  XF_ENCODE_BOS = 1, /* put the BOS id first */
  /* Read the spelling of a control or unknown token ("</s>", "<unk>") as that token: the leftmost
   * first, of those that begin there the longest. The text behind one is encoded as a text of its
   * own, with its own dummy prefix where the model has one. User-defined tokens are always read. */
  XF_ENCODE_PARSE_SPECIAL = 2
};

/* Encodes bytes utf8[0 … bytes), less than 1 GiB of any bytes; no byte is lost where they are not
 * UTF-8. Writes at most capacity ids and sets *n to the count of the whole encoding, so that a
 * first call with capacity 0 (ids may be NULL) tells the size. */
XF_API xf_status xf_tokenizer_encode(const xf_tokenizer *tokenizer, const char *utf8, size_t bytes,
                                     uint32_t flags, int32_t *ids, size_t capacity, size_t *n,
                                     xf_error *error);

/* Decodes ids to bytes; the same two-call use. Control and unknown tokens are silent, the space in
 * front of the first visible piece is dropped where encoding puts one there, byte tokens give their
 * byte even where that is not whole UTF-8. */
XF_API xf_status xf_tokenizer_decode(const xf_tokenizer *tokenizer, const int32_t *ids, size_t n,
                                     char *utf8, size_t capacity, size_t *bytes, xf_error *error);

/* Bytes of one token inside a text (its leading space kept; empty for a control token). They live
 * as long as the tokenizer. XF_E_ARGUMENT where id is not in the vocabulary. */
XF_API xf_status xf_tokenizer_piece(const xf_tokenizer *tokenizer, int32_t id, const char **piece,
                                    size_t *bytes);

/* A stream of tokens to text that never cuts a UTF-8 character: bytes of an unfinished character
 * are held back. Each byte that is no part of a character comes out as U+FFFD. A new decoder stands
 * at the beginning of a text, whose leading space is dropped as xf_tokenizer_decode does it: for
 * the text that follows a prompt, push the prompt's ids first and ignore what they give. */
typedef struct xf_decoder xf_decoder;
/* A decoder at the beginning of a text; the tokenizer is borrowed. */
XF_API xf_status xf_decoder_create(const xf_tokenizer *tokenizer, xf_decoder **out,
                                   xf_error *error);
XF_API void xf_decoder_destroy(xf_decoder *decoder); /* NULL is allowed */
/* *utf8 points to *bytes bytes of whole characters, NUL-terminated, valid until the next call. */
XF_API xf_status xf_decoder_push(xf_decoder *decoder, int32_t id, const char **utf8, size_t *bytes);
/* What was held back (as U+FFFD, being unfinished); the decoder is then as new. */
XF_API xf_status xf_decoder_flush(xf_decoder *decoder, const char **utf8, size_t *bytes);

#ifdef __cplusplus
}
#endif
#endif
