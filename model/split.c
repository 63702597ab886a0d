#define PCRE2_CODE_UNIT_WIDTH 8
#include "model/split.h"

#include <pcre2.h>

#include "dispatch/error.h"
#include "dispatch/memory.h"
#include "dispatch/utf8.h"

/* Inside of [ ]: Unicode's White_Space. PCRE2's own \s has U+180E besides. */
#define SPACE "\\t-\\r\\x{85}\\p{Z}"
/* Behind the words proper: spaces up to the last one in front of a word, which belongs to that
 * word, then what is left. */
#define SPACES "[" SPACE "]+(?![^" SPACE "])|[" SPACE "]+"

/* SmolLM2 splits at digits first, so that for its spaces a digit is the end of the text. All
 * quantified classes are followed by what they exclude or by the end, so that no expression
 * backtracks over more than the word at hand. */
static const char *const patterns[XF_SPLITS] = {
    [XF_SPLIT_GPT2] =
        "'(?:[sdmt]|ll|ve|re)| ?\\p{L}+| ?\\p{N}+| ?[^" SPACE "\\p{L}\\p{N}]+|" SPACES,
    [XF_SPLIT_SMOLLM] = "'(?:[sdmt]|ll|ve|re)|\\p{N}| ?\\p{L}+| ?[^" SPACE "\\p{L}\\p{N}]+|[" SPACE
                        "]+(?![^" SPACE "\\p{N}])|[" SPACE "]+",
    [XF_SPLIT_LLAMA3] = "'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^" SPACE
                        "\\p{L}\\p{N}]+[\\r\\n]*|[" SPACE "]*[\\r\\n]+|" SPACES,
    [XF_SPLIT_QWEN2] = "'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^" SPACE
                       "\\p{L}\\p{N}]+[\\r\\n]*|[" SPACE "]*[\\r\\n]+|" SPACES,
};

struct xf_splitter {
  pcre2_general_context *memory;
  pcre2_match_context *limits;
  pcre2_code *code;
};

static void *allocate(size_t bytes, void *unused)
{
  (void)unused;
  return xf_alloc(bytes, 1);
}

static void release(void *p, void *unused)
{
  (void)unused;
  xf_free(p);
}

xf_status xf_splitter_create(enum xf_split split, struct xf_splitter **out, xf_error *error)
{
  *out = NULL;
  struct xf_splitter *s = xf_alloc_zeroed(1, sizeof *s);
  if (s) s->memory = pcre2_general_context_create(allocate, release, NULL);
  if (s && s->memory) s->limits = pcre2_match_context_create(s->memory);
  pcre2_compile_context *options = NULL;
  if (s && s->limits) options = pcre2_compile_context_create(s->memory);
  int code = PCRE2_ERROR_NOMEMORY;
  size_t offset;
  if (options)
    s->code = pcre2_compile((PCRE2_SPTR)patterns[split], PCRE2_ZERO_TERMINATED,
                            PCRE2_UTF | PCRE2_ANCHORED, &code, &offset, options);
  pcre2_compile_context_free(options);
  if (!s || !s->code) {
    xf_splitter_destroy(s);
    return xf_fail(error, XF_E_MEMORY, "out of memory for the words' expression (PCRE2 error %d)",
                   code);
  }
  /* Where the system forbids making code, matching is slower and does the same. */
  pcre2_jit_compile(s->code, PCRE2_JIT_COMPLETE);
  /* The longest run of spaces counts its characters; nothing counts more. */
  pcre2_set_match_limit(s->limits, UINT32_MAX);
  *out = s;
  return XF_OK;
}

void xf_splitter_destroy(struct xf_splitter *splitter)
{
  if (!splitter) return;
  pcre2_code_free(splitter->code);
  pcre2_match_context_free(splitter->limits);
  pcre2_general_context_free(splitter->memory);
  xf_free(splitter);
}

xf_status xf_words_begin(const struct xf_splitter *splitter, const char *text, size_t bytes,
                         struct xf_words *words)
{
  *words = (struct xf_words){.splitter = splitter, .text = text, .bytes = bytes};
  words->match = pcre2_match_data_create(1, splitter->memory);
  return words->match ? XF_OK : XF_E_MEMORY;
}

void xf_words_end(struct xf_words *words)
{
  pcre2_match_data_free(words->match);
}

/* The end of the UTF-8 that begins at `at`, or of what is not UTF-8 there. */
static size_t run_end(const struct xf_words *words, size_t at, bool valid)
{
  while (at < words->bytes) {
    int character = xf_utf8_character(words->text + at, words->bytes - at);
    if ((character > 0) != valid) break;
    at += valid ? (size_t)character : 1;
  }
  return at;
}

xf_status xf_words_next(struct xf_words *words, size_t *begin, size_t *length)
{
  *begin = words->at;
  *length = 0;
  if (words->at == words->bytes) return XF_OK;
  if (words->at == words->valid_end) words->valid_end = run_end(words, words->at, true);
  if (words->at == words->valid_end) {
    words->at = words->valid_end = run_end(words, words->at, false);
    *length = words->at - *begin;
    return XF_OK;
  }
  const struct xf_splitter *s = words->splitter;
  int found = pcre2_match(s->code, (PCRE2_SPTR)words->text, words->valid_end, words->at,
                          PCRE2_NO_UTF_CHECK, words->match, s->limits);
  if (found < 1) return XF_E_MEMORY; /* every character begins a word: only memory can fail */
  *length = pcre2_get_ovector_pointer(words->match)[1] - words->at;
  words->at += *length;
  return XF_OK;
}
