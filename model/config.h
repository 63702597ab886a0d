/* config.json of a Llama-architecture checkpoint. */
#ifndef XF_MODEL_CONFIG_H
#define XF_MODEL_CONFIG_H

#include <stdbool.h>

#include "exactflash/status.h"

enum xf_rope_type { XF_ROPE_NONE, XF_ROPE_LINEAR, XF_ROPE_LLAMA3 };

struct xf_rope_config {
  enum xf_rope_type type;
  double theta, factor;
  double low_freq_factor, high_freq_factor, original_max_positions; /* llama3 */
};

struct xf_config {
  size_t hidden, intermediate, layers, heads, kv_heads, head_dim, vocab, max_positions;
  float rms_eps;
  bool tied;
  struct xf_rope_config rope;
  int32_t bos;    /* −1: none */
  int32_t eos[8]; /* the first n_eos */
  size_t n_eos;
};

/* Reads FOLDER/config.json. Absent optional fields have the defaults of transformers' LlamaConfig;
 * fields that would change the numbers and are not implemented fail. Sizes are checked against each
 * other and against sane limits (head_dim 8 … 256 and even, heads a multiple of kv_heads, …), so
 * that products of them cannot overflow. */
xf_status xf_config_read(const char *folder, struct xf_config *out, xf_error *error);

/* inv_freq[head_dim/2] as transformers computes it in float: the power in double and rounded, every
 * other operation in float. */
void xf_rope_inv_freq(const struct xf_config *config, float *inv_freq);

#endif
