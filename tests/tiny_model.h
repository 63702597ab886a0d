/* Writes small random Llama checkpoints for tests, the same bytes on every machine. */
#ifndef XF_TESTS_TINY_MODEL_H
#define XF_TESTS_TINY_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "exactflash/tensor.h"

struct tiny_model {
  size_t hidden, intermediate, layers, heads, kv_heads, vocab;
  size_t head_dim;      /* 0: hidden / heads, and no such field in config.json */
  size_t max_positions; /* 0: 2048 */
  xf_type type;         /* 0: XF_F32; the same seed gives the same weights, cut to the type */
  uint64_t seed;
  bool tied;
  size_t shards;      /* 0, 1: model.safetensors; more: that many files and their index */
  const char *extras; /* more fields of config.json, as "\"rope_theta\": 500000.0"; NULL: none */
};

/* Hidden 16, intermediate 24, 1 layer, 2 heads of 8 on 1 KV head, vocab 20. */
struct tiny_model tiny_model_smallest(void);
/* No size is a multiple of 16: hidden 180, intermediate 452, 2 layers, 4 heads of 48 on 2 KV heads,
 * vocab 555. */
struct tiny_model tiny_model_ragged(void);
/* Three queries to a KV head: hidden 84, intermediate 196, 2 layers, 6 heads of 24 on 2 KV heads,
 * vocab 133. */
struct tiny_model tiny_model_grouped(void);

/* Writes config.json and the weights into the folder; a test fails if it cannot. Attention is sharp
 * enough to matter and logits have a deviation of about 3. */
void tiny_model_write(const struct tiny_model *model, const char *folder);

/* The number of its parameters, a tied head counted once. */
uint64_t tiny_model_parameters(const struct tiny_model *model);

#endif
