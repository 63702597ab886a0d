/* Makes .tflite files of Llamas for tests, with the one graph that the library reads. */
#ifndef XF_TESTS_TFLITE_MODEL_H
#define XF_TESTS_TFLITE_MODEL_H

#include <stdbool.h>
#include <stddef.h>

#include "exactflash/tensor.h"

/* What is usual, where a field is 0 or NULL. */
struct tflite_model {
  xf_type type;          /* of matrices: XF_F32, XF_F16 or XF_I8, rounded by rows */
  size_t cache;          /* 64 positions */
  bool interleaved;      /* rows of q, k and v are together for each KV head; else q, k, v */
  bool outside;          /* constants lie behind the FlatBuffer */
  bool table;            /* the mask is rows of a constant; else a comparison */
  const char *signature; /* "decode" */
  int change;            /* operator change − 1 becomes one that no Llama has */
  float scale;           /* of the attention: times the right one */
  float epsilon;         /* of the last layer's first norm */
  int zero_point;        /* of int8 */
  bool unmasked;         /* the attention has no mask */
  bool fixed_slot;       /* k and v are stored in slot 0, not at their position */
  int stored_along;      /* dimension of the cache that the position counts, plus 1 */
  bool rotates_tokens;   /* RoPE's angles are of the tokens, not of their positions */
};

/* Writes the model of a Hugging Face folder, of f32 or f16. Returns the number of its operators. */
int tflite_model_write(const struct tflite_model *model, const char *folder, const char *path);

#endif
