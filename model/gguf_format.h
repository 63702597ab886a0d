/* What reader and writer of GGUF files share. */
#ifndef XF_MODEL_GGUF_FORMAT_H
#define XF_MODEL_GGUF_FORMAT_H

#include "model/gguf.h"

enum {
  XF_GGUF_MAGIC = 0x46554747, /* "GGUF" */
  XF_GGUF_VERSION = 3,
  XF_GGUF_ALIGNMENT = 32, /* where general.alignment is absent */
  XF_GGUF_MAX_ALIGNMENT = 1 << 24,
  XF_GGUF_MAX_KEY = 65535,
  XF_GGUF_MAX_TENSOR_NAME = 64
};

/* Bytes of an element, of a string the least; 0 for arrays. */
size_t xf_gguf_type_size(enum xf_gguf_type type);
/* Order of keys, for qsort and bsearch over values. */
int xf_gguf_compare_keys(const void *a, const void *b);

#endif
