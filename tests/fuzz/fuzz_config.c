/* A config.json of any bytes. */
#include "model/config.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  static float inv_freq[256];
  const char *path = fuzz_file("config.json", data, size);
  struct xf_config config;
  xf_error error = {0};
  if (fuzz_failed(xf_config_read(fuzz_folder(), &config, &error), &error, path)) return 0;
  fuzz_expect(config.hidden >= 1 && config.hidden <= XF_MAX_WIDTH, "hidden_size");
  fuzz_expect(config.intermediate >= 1 && config.intermediate <= XF_MAX_FF, "intermediate_size");
  fuzz_expect(config.layers >= 1 && config.layers <= XF_MAX_LAYERS, "num_hidden_layers");
  fuzz_expect(config.vocab >= 1 && config.vocab <= XF_MAX_VOCAB, "vocab_size");
  fuzz_expect(config.heads >= 1 && config.heads <= XF_MAX_HEADS, "num_attention_heads");
  fuzz_expect(config.kv_heads >= 1 && config.heads % config.kv_heads == 0, "num_key_value_heads");
  fuzz_expect(config.head_dim >= 8 && config.head_dim <= 256, "head_dim");
  fuzz_expect(config.n_eos <= XF_MAX_EOS, "eos_token_id");
  xf_rope_inv_freq(&config, inv_freq);
  return 0;
}
