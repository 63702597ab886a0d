#include "exactflash/kv_cache.h"

#include <string.h>

#include "dispatch/error.h"
#include "dispatch/memory.h"
#include "model/model.h"

/* K and V of one layer and all its heads. */
static struct xf_kv_layout layer_layout(const xf_model *model)
{
  size_t d = model->config.head_dim;
  return xf_kv_layout_dense(model->options.cache_type, XF_PAGE_LEN, d, d);
}

static size_t layer_elements(const xf_model *model)
{
  return model->config.kv_heads * layer_layout(model).head_stride;
}

static size_t page_elements(const xf_model *model)
{
  return model->config.layers * layer_elements(model);
}

static size_t pages_for(size_t length)
{
  return (length + XF_PAGE_LEN - 1) / XF_PAGE_LEN;
}

struct xf_kv_layout xf_cache_layout(const xf_model *model, size_t layer)
{
  struct xf_kv_layout layout = layer_layout(model);
  layout.k_offset += layer * layer_elements(model);
  layout.v_offset += layer * layer_elements(model);
  return layout;
}

xf_status xf_cache_create(const xf_model *model, size_t capacity, xf_cache **out, xf_error *error)
{
  if (!model || !out) return xf_fail(error, XF_E_ARGUMENT, "xf_cache_create: model or out is NULL");
  *out = NULL;
  if (capacity == 0 || capacity > XF_CACHE_MAX)
    return xf_fail(error, XF_E_ARGUMENT, "KV cache: capacity %zu; it must be 1 … %d", capacity,
                   XF_CACHE_MAX);
  xf_cache *cache = xf_alloc_zeroed(1, sizeof *cache);
  if (cache) cache->pages = xf_alloc_zeroed(pages_for(capacity), sizeof *cache->pages);
  if (!cache || !cache->pages) {
    xf_free(cache);
    return xf_fail(error, XF_E_MEMORY, "out of memory for a KV cache of %zu positions", capacity);
  }
  cache->model = model;
  cache->capacity = capacity;
  *out = cache;
  return XF_OK;
}

/* Gives back all pages but the first n. */
static void drop_pages(xf_cache *cache, size_t n)
{
  for (; cache->n_pages > n; cache->n_pages--)
    xf_unmap(cache->pages[cache->n_pages - 1], page_elements(cache->model),
             xf_type_size(cache->model->options.cache_type));
}

void xf_cache_destroy(xf_cache *cache)
{
  if (!cache) return;
  drop_pages(cache, 0);
  xf_free(cache->pages);
  xf_free(cache);
}

size_t xf_cache_length(const xf_cache *cache)
{
  return cache->length;
}

size_t xf_cache_capacity(const xf_cache *cache)
{
  return cache->capacity;
}

size_t xf_cache_bytes(const xf_cache *cache)
{
  return cache->n_pages * page_elements(cache->model) *
         xf_type_size(cache->model->options.cache_type);
}

xf_status xf_cache_truncate(xf_cache *cache, size_t length)
{
  if (!cache || length > cache->length) return XF_E_ARGUMENT;
  cache->length = length;
  drop_pages(cache, pages_for(length));
  return XF_OK;
}

xf_status xf_cache_reserve(xf_cache *cache, size_t length, xf_error *error)
{
  size_t held = cache->n_pages, size = xf_type_size(cache->model->options.cache_type);
  for (; cache->n_pages < pages_for(length); cache->n_pages++) {
    void *page = xf_map(page_elements(cache->model), size);
    if (!page) {
      size_t position = cache->n_pages * XF_PAGE_LEN;
      drop_pages(cache, held);
      return xf_fail(error, XF_E_MEMORY, "out of memory for position %zu of a KV cache", position);
    }
    cache->pages[cache->n_pages] = page;
  }
  return XF_OK;
}

xf_status xf_cache_export(const xf_cache *cache, size_t max_seq_len, float *const *k,
                          float *const *v, xf_error *error)
{
  if (!cache || !k || !v)
    return xf_fail(error, XF_E_ARGUMENT, "xf_cache_export: cache, k or v is NULL");
  if (max_seq_len < cache->length)
    return xf_fail(error, XF_E_SHAPE,
                   "KV cache export: max_seq_len %zu is less than the %zu "
                   "positions held",
                   max_seq_len, cache->length);
  const struct xf_config *c = &cache->model->config;
  size_t row = c->kv_heads * c->head_dim, rest = (max_seq_len - cache->length) * row;
  xf_fp_state caller = xf_fp_enter();
  for (size_t layer = 0; layer < c->layers; layer++) {
    struct xf_kv_layout layout = xf_cache_layout(cache->model, layer);
    for (size_t i = 0; i < cache->length; i++)
      xf_kv_read(cache->model->context->kernels, &layout, c->kv_heads, cache->pages, i,
                 k[layer] + i * row, v[layer] + i * row);
    memset(k[layer] + cache->length * row, 0, rest * sizeof(float));
    memset(v[layer] + cache->length * row, 0, rest * sizeof(float));
  }
  xf_fp_leave(caller);
  return XF_OK;
}

xf_status xf_cache_import(xf_cache *cache, size_t length, const float *const *k,
                          const float *const *v, xf_error *error)
{
  if (!cache || !k || !v)
    return xf_fail(error, XF_E_ARGUMENT, "xf_cache_import: cache, k or v is NULL");
  if (length > cache->capacity)
    return xf_fail(error, XF_E_CACHE_FULL,
                   "KV cache is full: %zu positions wanted, capacity %zu (kv_cache_max_len)",
                   length, cache->capacity);
  xf_status status = xf_cache_reserve(cache, length, error);
  if (status) return status;
  const struct xf_config *c = &cache->model->config;
  size_t row = c->kv_heads * c->head_dim;
  xf_fp_state caller = xf_fp_enter();
  for (size_t layer = 0; layer < c->layers; layer++) {
    struct xf_kv_layout layout = xf_cache_layout(cache->model, layer);
    for (size_t i = 0; i < length; i++)
      xf_kv_write(cache->model->context->kernels, &layout, c->kv_heads, cache->pages, i,
                  k[layer] + i * row, v[layer] + i * row);
  }
  xf_fp_leave(caller);
  cache->length = length;
  return xf_cache_truncate(cache, length); /* gives back what a longer past had */
}
