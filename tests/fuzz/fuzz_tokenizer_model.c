/* A tokenizer.model of any bytes. */
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  const char *path = fuzz_file("tokenizer.model", data, size);
  xf_tokenizer *tokenizer;
  xf_error error = {0};
  if (fuzz_failed(xf_tokenizer_open(path, &tokenizer, &error), &error, path)) return 0;
  fuzz_any_tokenizer(tokenizer);
  xf_tokenizer_close(tokenizer);
  return 0;
}
