/* Loads a model and continues a prompt: example_generate MODEL PROMPT */
#include <stdio.h>
#include <string.h>

#include "exactflash/exactflash.h"

int main(int argc, char **argv)
{
  if (argc != 3) return fputs("usage: example_generate MODEL PROMPT\n", stderr), 2;
  xf_context *context = NULL;
  xf_model *model = NULL;
  xf_tokenizer *tokenizer = NULL;
  xf_cache *cache = NULL;
  xf_generator *generator = NULL;
  xf_generate_options options = {.struct_size = sizeof options, .temperature = 0.8f, .seed = 1};
  int32_t ids[256], token;
  size_t n = 0, bytes;
  const char *text;
  int done = 0;
  xf_error error;

  xf_status status = xf_context_create(NULL, &context, &error);
  if (!status) status = xf_model_open(context, argv[1], NULL, &model, &error);
  if (!status) status = xf_tokenizer_open(argv[1], &tokenizer, &error);
  if (!status) status = xf_cache_create(model, 512, &cache, &error);
  if (!status) status = xf_generator_create(model, cache, tokenizer, &options, &generator, &error);
  if (!status)
    status = xf_tokenizer_encode(tokenizer, argv[2], strlen(argv[2]), XF_ENCODE_BOS, ids, 256, &n,
                                 &error);
  if (!status) status = xf_generator_prompt(generator, ids, n, &error);
  for (int i = 0; i < 100 && !status && !done; i++) {
    status = xf_generator_next(generator, &token, &done, &text, &bytes, &error);
    if (!status) fwrite(text, 1, bytes, stdout);
  }
  if (status) fprintf(stderr, "%s\n", error.message);

  xf_generator_destroy(generator);
  xf_cache_destroy(cache);
  xf_tokenizer_close(tokenizer);
  xf_model_close(model);
  xf_context_destroy(context);
  return status != XF_OK;
}
