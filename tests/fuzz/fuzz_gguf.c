/* A GGUF file of any bytes: its structure, the configuration and the tokenizer in it. */
#include "model/config.h"
#include "model/gguf.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  const char *path = fuzz_file("model.gguf", data, size);
  struct xf_gguf gguf;
  xf_error error = {0};
  if (fuzz_failed(xf_gguf_open(path, &gguf, &error), &error, path)) return 0;
  for (size_t i = 0; i < gguf.n_values; i++) fuzz_touch(gguf.values[i].data, gguf.values[i].bytes);
  for (size_t i = 0; i < gguf.n_tensors; i++)
    fuzz_touch(gguf.tensors[i].data, gguf.tensors[i].bytes);
  struct xf_config config;
  fuzz_failed(xf_config_read_gguf(&gguf, &config, &error), &error, path);
  xf_gguf_close(&gguf);

  xf_tokenizer *tokenizer;
  if (fuzz_failed(xf_tokenizer_open(path, &tokenizer, &error), &error, path)) return 0;
  fuzz_any_tokenizer(tokenizer);
  xf_tokenizer_close(tokenizer);
  return 0;
}
