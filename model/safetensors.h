/* One file in the safetensors format, mapped: https://github.com/huggingface/safetensors */
#ifndef XF_MODEL_SAFETENSORS_H
#define XF_MODEL_SAFETENSORS_H

#include <cjson/cJSON.h>

#include "model/file.h"
#include "model/tensor.h"

/* Tensors point into the path, the file and the header. */
struct xf_safetensors {
  char *path;
  const char *name; /* the path's end */
  struct xf_file file;
  cJSON *header;
  struct xf_tensor *tensors; /* [n], by name */
  size_t n;
};

/* Opens FOLDER/NAME and checks all of its header: every byte of data belongs to exactly one tensor,
 * of the size that its shape and dtype mean. */
xf_status xf_safetensors_open(const char *folder, const char *name, struct xf_safetensors *out,
                              xf_error *error);
void xf_safetensors_close(
    struct xf_safetensors *file); /* leaves it empty; an empty one is allowed */

#endif
