/* Makes GGUF files for tests, with the library's own writer. */
#ifndef XF_TESTS_GGUF_MODEL_H
#define XF_TESTS_GGUF_MODEL_H

#include "model/gguf_write.h"

struct gguf_edit {
  const char *drop; /* a key or tensor; NULL: none */
  /* Adds to the metadata; NULL: nothing. */
  void (*add)(struct xf_gguf_writer *writer, const void *arg);
  const void *arg;
  const char *vector; /* a tensor [n] to add, of floats; NULL: none */
  const float *values;
  size_t n;
};
/* Copies a GGUF file with that edit (NULL: none). */
void gguf_copy(const char *from, const char *to, const struct gguf_edit *edit);

#endif
