/* What a Llama's tensors are called, and how their rows lie, in each format. */
#ifndef XF_MODEL_NAMING_H
#define XF_MODEL_NAMING_H

#include <stdbool.h>
#include <stddef.h>

enum xf_role {
  XF_EMBEDDING,
  XF_FINAL_NORM,
  XF_HEAD,
  XF_ATTENTION_NORM, /* from here on: once in every layer */
  XF_Q,
  XF_K,
  XF_V,
  XF_O,
  XF_MLP_NORM,
  XF_GATE,
  XF_UP,
  XF_DOWN,
  XF_ROLES
};

struct xf_naming {
  const char *layers;       /* "blk.": stands, with the layer's number, before its tensors' names */
  const char *const *names; /* [XF_ROLES] */
  /* In each head, rows i and i + head_dim/2 of q and k lie at 2i and 2i + 1. */
  bool paired;
  const char *rope_factors; /* the whole name of [head_dim/2] divisors; NULL: never there */
  const char *rope_table;   /* the whole name of [head_dim/2] frequencies; NULL: never there */
  /* Where the sizes come from, and the number of layers, for messages. */
  const char *config, *layer_count;
};

extern const struct xf_naming xf_naming_hugging_face, xf_naming_gguf, xf_naming_tflite;

enum { XF_MAX_NAME = 96 };

/* Writes the whole name, with ".weight" or ".bias" as the suffix. layer: ignored for roles that no
 * layer has. */
void xf_tensor_name(const struct xf_naming *naming, enum xf_role role, size_t layer,
                    const char *suffix, char name[static XF_MAX_NAME]);

struct xf_config;
/* [n, k]; k is 0 of a vector. */
void xf_tensor_shape(const struct xf_config *config, enum xf_role role, size_t shape[static 2]);

#endif
