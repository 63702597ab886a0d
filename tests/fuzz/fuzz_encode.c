/* Any text through a tokenizer of each kind: the first byte chooses it, the rest is the text. */
#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/fuzz.h"
#include "tests/spm_writer.h"
#include "tests/tokenizer_support.h"
#include "tests/tokenizer_writer.h"

/* GGUF's names of pre-tokenizers; the last one normalizes, so that texts may change. */
static const char *const pre_tokenizers[] = {"gpt-2", "smollm", "llama-bpe", "qwen2"};
enum {
  PRE_TOKENIZERS = sizeof pre_tokenizers / sizeof *pre_tokenizers,
  NORMALIZING = PRE_TOKENIZERS - 1,
  SENTENCEPIECE = PRE_TOKENIZERS,
  KINDS
};

static xf_tokenizer *tokenizers[KINDS];

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
  (void)argc, (void)argv;
  for (size_t i = 0; i < PRE_TOKENIZERS; i++) {
    const char *path = fuzz_file("tokenizer.gguf", NULL, 0);
    write_gguf(path, pre_tokenizers[i]);
    tokenizers[i] = open_tokenizer(path);
  }
  struct message model = spm_model(&(struct spm_options){0});
  tokenizers[SENTENCEPIECE] = open_tokenizer(fuzz_file("tokenizer.model", model.data, model.bytes));
  free(model.data);
  return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  if (size == 0) return 0;
  size_t kind = data[0] % KINDS;
  uint32_t flags = data[0] & 0x80 ? XF_ENCODE_PARSE_SPECIAL : 0;
  const char *text = (const char *)data + 1;
  /* SentencePiece reads its mark of a space as a space. */
  bool marked = kind == SENTENCEPIECE && memmem(text, size - 1, "\xE2\x96\x81", 3);
  fuzz_tokenizer(tokenizers[kind], text, size - 1, flags, !flags && kind != NORMALIZING && !marked);
  return 0;
}
