/* Inside of xf_model and xf_cache. */
#ifndef XF_MODEL_MODEL_H
#define XF_MODEL_MODEL_H

#include <pthread.h>

#include "dispatch/attention.h"
#include "exactflash/kv_cache.h"
#include "model/config.h"
#include "model/weights.h"

enum {
  XF_PAGE_LEN =
      XF_BLOCK, /* positions of a KV page: one block of keys, so that a head's are contiguous */
  XF_CACHE_MAX = 1 << 24 /* most positions of a cache: the largest run that float counts exactly */
};

struct xf_workspace;

/* Workspaces of finished forward calls (model/workspace.h). */
struct xf_idle {
  pthread_mutex_t lock;
  struct xf_workspace *first;
};

struct xf_model {
  const xf_context *context;
  struct xf_config config;
  struct xf_weights weights;
  xf_model_options options; /* chunk and cache_type are never 0, attention never PLANNED */
  bool planned_chunks;      /* prompts are cut as config.plan says */
  struct xf_idle *idle;
};

/* A page: for each layer, for each KV head, panels of K, then those of V, as xf_kv_layout has them,
 * of the model's cache_type. */
struct xf_cache {
  const xf_model *model;
  size_t capacity, length;
  void **pages; /* [ceil(capacity / XF_PAGE_LEN)]; the first n_pages are allocated */
  size_t n_pages;
};

struct xf_kv_layout xf_cache_layout(const xf_model *model, size_t layer);
/* Pages for positions up to length, which is at most the capacity; does not change the length.
 * XF_E_MEMORY: no page has been taken. */
xf_status xf_cache_reserve(xf_cache *cache, size_t length, xf_error *error);

#endif
