/* The sizes and settings of a Llama-architecture checkpoint: config.json, or GGUF's metadata. */
#ifndef XF_MODEL_CONFIG_H
#define XF_MODEL_CONFIG_H

#include <stdbool.h>

#include "exactflash/model.h"

/* Limits of what is read: far above any model, low enough that products of sizes fit. */
enum {
  XF_MAX_WIDTH = 1 << 20, /* hidden */
  XF_MAX_FF = 1 << 22,    /* intermediate */
  XF_MAX_VOCAB = 1 << 24,
  XF_MAX_POSITIONS = 1 << 24, /* every position is a float */
  XF_MAX_LAYERS = 4096,
  XF_MAX_HEADS = 4096,
  XF_MAX_HEAD_DIM = 256,
  XF_MAX_EOS = 8
};

/* FACTORS: the checkpoint has a tensor of divisors; `factor` counts too. TABLE: it has the
 * frequencies themselves. */
enum xf_rope_type { XF_ROPE_NONE, XF_ROPE_LINEAR, XF_ROPE_LLAMA3, XF_ROPE_FACTORS, XF_ROPE_TABLE };

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
  int32_t bos;             /* −1: none */
  int32_t eos[XF_MAX_EOS]; /* the first n_eos */
  size_t n_eos;
  xf_plan plan; /* zeros: none */
};

/* Reads FOLDER/config.json. Absent optional fields have the defaults of transformers' LlamaConfig;
 * fields that would change the numbers and are not implemented fail. Sizes are checked against each
 * other and against sane limits (head_dim 8 … 256 and even, heads a multiple of kv_heads, …), so
 * that products of them cannot overflow. */
xf_status xf_config_read(const char *folder, struct xf_config *out, xf_error *error);

struct xf_gguf;

/* Keys of our own, which our converter writes where the standard ones cannot say it: all EOS ids;
 * and the four settings of llama3 scaling, in the order of xf_rope_config's fields. */
#define XF_GGUF_EOS_KEY    "exactflash.eos_token_ids"
#define XF_GGUF_LLAMA3_KEY "exactflash.rope.llama3"
/* bool, of a packed file (model/packed.h), which has no output.weight. */
#define XF_GGUF_TIED_KEY "exactflash.packed.tied"

/* The same from a GGUF file's metadata, whose general.architecture must be llama; the vocabulary is
 * as large as the tensor token_embd.weight says. */
xf_status xf_config_read_gguf(const struct xf_gguf *gguf, struct xf_config *out, xf_error *error);

/* The names of these fields in a file, for messages. */
struct xf_head_fields {
  const char *hidden, *heads, *kv_heads, *head_dim;
};

/* What both do with them when they are read: a head_dim of 0 becomes hidden / heads; groups must be
 * whole and head_dim a size that the kernels can do. */
xf_status xf_config_check_heads(const char *path, const struct xf_head_fields *names,
                                struct xf_config *config, xf_error *error);

/* inv_freq[head_dim/2] as transformers computes it in float: the power in double and rounded, every
 * other operation in float. Without a checkpoint's factors. */
void xf_rope_inv_freq(const struct xf_config *config, float *inv_freq);

#endif
