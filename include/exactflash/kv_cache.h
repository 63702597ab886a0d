/* The KV cache of one sequence. Memory is taken in pages as positions are used, so that cost
 * follows the used length and not the capacity. */
#ifndef EXACTFLASH_KV_CACHE_H
#define EXACTFLASH_KV_CACHE_H

#include "exactflash/model.h"

#ifdef __cplusplus
extern "C" {
#endif

/* capacity: the most positions it will hold (kv_cache_max_len), ≥ 1; a capacity beyond the model's
 * max_position_embeddings is allowed. */
XF_API xf_status xf_cache_create(const xf_model *model, size_t capacity, xf_cache **out,
                                 xf_error *error);
XF_API void xf_cache_destroy(xf_cache *cache); /* NULL is allowed */

XF_API size_t xf_cache_length(const xf_cache *cache);   /* positions held */
XF_API size_t xf_cache_capacity(const xf_cache *cache); /* positions at most */
XF_API size_t xf_cache_bytes(const xf_cache *cache);    /* memory held by its pages */

/* Forgets the positions from length on; length ≤ xf_cache_length. */
XF_API xf_status xf_cache_truncate(xf_cache *cache, size_t length);

/* The exchange layout: for each layer a k and a v of [max_seq_len, kv_heads, head_dim] f32, that is
 * one batch entry of [batch, max_seq_len, num_heads, head_dim]. k has RoPE applied.
 * Export writes the held positions and zeros behind them; max_seq_len ≥ length. What was exported
 * and is imported again is the same cache to the bit, of any cache_type (docs/numerics.md). */
XF_API xf_status xf_cache_export(const xf_cache *cache, size_t max_seq_len, float *const *k,
                                 float *const *v, xf_error *error);
/* Replaces the contents by the first length positions of k and v ([layers] pointers). All or
 * nothing. */
XF_API xf_status xf_cache_import(xf_cache *cache, size_t length, const float *const *k,
                                 const float *const *v, xf_error *error);

#ifdef __cplusplus
}
#endif
#endif
