/* Cuts text into the words that byte-level BPE works on ("pre-tokenization"), by the regular
 * expressions of the published models. No file brings an expression of its own. */
#ifndef XF_MODEL_SPLIT_H
#define XF_MODEL_SPLIT_H

#include <stddef.h>

#include "exactflash/status.h"

enum xf_split {
  XF_SPLIT_GPT2,   /* Radford et al. 2019 */
  XF_SPLIT_SMOLLM, /* SmolLM2: each digit apart, then as GPT-2 */
  XF_SPLIT_LLAMA3, /* also that of tiktoken's cl100k */
  XF_SPLIT_QWEN2,
  XF_SPLITS
};

/* A compiled expression, immutable and shareable by threads. */
struct xf_splitter;
xf_status xf_splitter_create(enum xf_split split, struct xf_splitter **out, xf_error *error);
void xf_splitter_destroy(struct xf_splitter *splitter); /* NULL is allowed */

/* The words of text[0 … bytes), one after the other; they cover the text without gaps. Bytes that
 * are not UTF-8 end the text in front of them, and a run of them is a word. Takes time proportional
 * to the text, and memory that does not depend on it. */
struct xf_words {
  const struct xf_splitter *splitter;
  const char *text;
  size_t bytes, at, valid_end; /* text[at … valid_end) is UTF-8 */
  void *match;
};
xf_status xf_words_begin(const struct xf_splitter *splitter, const char *text, size_t bytes,
                         struct xf_words *words);
/* Sets [*begin, *begin + *length) to the next word, *length to 0 at the end. XF_E_MEMORY alone can
 * go wrong. */
xf_status xf_words_next(struct xf_words *words, size_t *begin, size_t *length);
void xf_words_end(struct xf_words *words);

#endif
