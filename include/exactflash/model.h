/* A Llama-architecture model: open a checkpoint, run it over sequences.
 * Source: Touvron et al. 2023, "LLaMA"; Zhang et al. 2024, "TinyLlama"; shapes as Hugging Face's
 * LlamaForCausalLM has them. */
#ifndef EXACTFLASH_MODEL_H
#define EXACTFLASH_MODEL_H

#include "exactflash/boundary.h"
#include "exactflash/context.h"
#include "exactflash/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A checkpoint in memory. Immutable, and shareable by threads. */
typedef struct xf_model xf_model;
/* The KV cache of one sequence (kv_cache.h). */
typedef struct xf_cache xf_cache;

/* Called now and then from the calling thread during long work: stage is a word such as "load" or
 * "prefill", done and total count its steps. A non-zero return cancels (XF_E_CANCELLED). */
typedef int (*xf_progress)(void *arg, const char *stage, size_t done, size_t total);

/* How attention is computed. */
typedef enum xf_attention_kind {
  XF_ATTENTION_FLASH = 0,    /* tiled, online softmax, O(threads) memory */
  XF_ATTENTION_STANDARD = 1, /* the textbook: whole score matrix [heads, q_len, kv_len] in memory */
  XF_ATTENTION_PLANNED = 2   /* as the file's plan says, else flash */
} xf_attention_kind;

/* Whether flash attention splits one sequence's keys over threads. Changes speed, never a bit. */
typedef enum xf_attention_split {
  XF_SPLIT_AUTO = 0, /* where there are fewer (sequence, head, q-block) tasks than threads */
  XF_SPLIT_NEVER,
  XF_SPLIT_ALWAYS
} xf_attention_split;

/* How a model is run. */
typedef struct xf_model_options {
  size_t struct_size; /* sizeof(xf_model_options); 0 in any field below: its default */
  xf_attention_kind attention;
  xf_attention_split split;
  uint32_t q_block; /* query positions per attention task; 0: by sequence length. Never a bit. */
  /* Most tokens taken through the layers at once. 0: the longest of the file's plan, else 512.
   * Never a bit. */
  uint32_t chunk;
  xf_progress progress;
  void *progress_arg;
  xf_boundary boundary; /* called in place of operators (boundary.h); NULL: boundaries are off */
  void *boundary_arg;
  uint64_t boundaries;        /* bits of xf_operator_kind: those it is called for; 0: all */
  xf_activations activations; /* of 8- and 4-bit weights */
  /* Of the numbers in KV caches: XF_F32, or XF_F16, XF_BF16 or XF_I8 (with one f32 scale per
   * position and head), to which K and V are rounded when they are stored (to nearest even): half
   * or about a quarter of the memory, and results of their own. */
  xf_type cache_type;
} xf_model_options;

/* path: a Hugging Face folder (config.json, model.safetensors or its shards with index), or a GGUF
 * or .tflite file. The context must outlive the model. options may be NULL. Weights are packed
 * once, in their own type (f32, f16, bf16; from GGUF also Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K,
 * Q6_K and mixes of them, and I8 with a tensor of f32 row scales named .scale in place of .weight);
 * matrices of f32 whose numbers are all bf16's take half: as bf16, with the same bits of results.
 * The files are mapped, and closed again when this returns, except the embedding's, and packed
 * ones, which are read in place. */
XF_API xf_status xf_model_open(const xf_context *context, const char *path,
                               const xf_model_options *options, xf_model **out, xf_error *error);
/* NULL is allowed. Caches made with the model must be destroyed before. */
XF_API void xf_model_close(xf_model *model);

/* What a type has of a model's weights, as they are in memory. */
typedef struct xf_type_share {
  xf_type type;
  uint64_t parameters, bytes;
} xf_type_share;

/* What a model is. */
typedef struct xf_model_info {
  uint32_t hidden_size, intermediate_size, layers, heads, kv_heads, head_dim, vocab_size;
  uint32_t max_position_embeddings;
  float rms_norm_eps;
  double rope_theta;
  const char *rope_scaling; /* "none", "linear", "llama3", "factors" (GGUF's rope_freqs),
                             * "table" (a .tflite file's own frequencies) */
  int tied_embeddings;
  int32_t bos_token_id;     /* −1: none */
  int32_t eos_token_ids[8]; /* the first n_eos_token_ids */
  uint32_t n_eos_token_ids;
  xf_type weight_type; /* of the first layer's q_proj, in the file */
  uint64_t parameters;
  uint64_t weight_bytes;   /* in memory, packed */
  xf_type_share types[12]; /* the first n_types: what weight_bytes is made of, most bytes first */
  uint32_t n_types;
} xf_model_info;

/* Fills *info. */
XF_API void xf_model_get_info(const xf_model *model, xf_model_info *info);

enum { XF_PLAN_LENGTHS = 16 }; /* most chunk lengths of a plan */
/* How a converted file is meant to be run. All of it changes speed and memory only, but for
 * standard attention, whose roundings are others. */
typedef struct xf_plan {
  /* Prompts are taken in chunks of these lengths, the longest that is not longer than what is left,
   * and at last what is left. Ascending, each at most kv_cache_max_len and 65536. */
  uint32_t prefill_seq_lens[XF_PLAN_LENGTHS]; /* the first n_prefill_seq_lens */
  uint32_t n_prefill_seq_lens;
  uint32_t
      kv_cache_max_len; /* cache capacity, at most max_position_embeddings; 0: no plan at all */
  xf_attention_kind attention; /* flash or standard */
} xf_plan;

/* Zeros where the checkpoint has no plan. xf_generator_prompt follows the lengths where
 * xf_model_options.chunk was 0; the capacity is the caller's to follow. */
XF_API void xf_model_get_plan(const xf_model *model, xf_plan *plan);

/* Whose logits are wanted: none, the last token's, all tokens'. */
typedef enum xf_logits { XF_LOGITS_NONE = 0, XF_LOGITS_LAST, XF_LOGITS_ALL } xf_logits;

/* What one call adds to one sequence: n_tokens new tokens at positions cache length … */
typedef struct xf_sequence {
  xf_cache *cache;       /* one cache per sequence; the same cache twice in a call is an error */
  const int32_t *tokens; /* [n_tokens], each in [0, vocab_size) */
  size_t n_tokens;       /* ≥ 1 */
  xf_logits logits;
  float *out; /* [1 or n_tokens, vocab_size]; NULL with XF_LOGITS_NONE */
} xf_sequence;

/* Runs n sequences through the model at once: any mix of prefill chunks and decode steps. Every
 * sequence's result has the bits it would have alone, in one chunk or token by token. All or
 * nothing: on failure no cache has changed its length. One call at a time per cache; calls on
 * different caches may run at the same time. */
XF_API xf_status xf_forward(const xf_model *model, const xf_sequence *sequences, size_t n,
                            xf_error *error);

#ifdef __cplusplus
}
#endif
#endif
