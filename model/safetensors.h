/* One file in the safetensors format, mapped: https://github.com/huggingface/safetensors */
#ifndef XF_MODEL_SAFETENSORS_H
#define XF_MODEL_SAFETENSORS_H

#include <cjson/cJSON.h>

#include "exactflash/tensor.h"
#include "model/file.h"

struct xf_tensor {
  const char *name;
  const char *path;  /* of its file, for messages */
  xf_type type;      /* 0: a dtype that the library does not have */
  const char *dtype; /* the same as the file spells it */
  size_t rank;
  size_t shape[4];  /* of a rank above 4 the first four sizes */
  const void *data; /* row-major, little-endian, maybe unaligned, inside the mapped file */
  size_t bytes;
};

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

/* Finds a tensor by name in a list that is sorted by name; NULL where there is none. */
struct xf_tensor *xf_tensor_find(struct xf_tensor *tensors, size_t n, const char *name);
/* Order of names, for qsort. */
int xf_tensor_compare(const void *a, const void *b);

#endif
