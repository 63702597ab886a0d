/* The element types of ggml, as GGUF files number them. */
#ifndef XF_MODEL_GGML_TYPE_H
#define XF_MODEL_GGML_TYPE_H

#include "exactflash/tensor.h"

struct xf_ggml_type {
  uint32_t id;
  const char *name;
  size_t block;       /* elements that share scales: a row holds whole blocks */
  size_t block_bytes; /* of such a block */
  xf_type type;       /* 0: the library does not have it */
};

/* NULL where ggml had no such type when this was written. */
const struct xf_ggml_type *xf_ggml_type_find(uint32_t id);
/* The type that stores a type of ours; of XF_I8_ROW its bytes. */
const struct xf_ggml_type *xf_ggml_type_of(xf_type type);

#endif
