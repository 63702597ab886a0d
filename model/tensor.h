/* A tensor of a mapped file, whatever the file's format. */
#ifndef XF_MODEL_TENSOR_H
#define XF_MODEL_TENSOR_H

#include "exactflash/tensor.h"

struct xf_tensor {
  const char *name;
  const char *path;  /* of its file, for messages */
  xf_type type;      /* 0: an element type that the library does not have */
  const char *dtype; /* the same as the format spells it */
  size_t rank;
  size_t shape[4];  /* outermost first; of a rank above 4 the first four sizes */
  const void *data; /* row-major, little-endian, maybe unaligned, inside the mapped file */
  size_t bytes;
  /* Not 0: the rows are runs of so many of the file's, which has `skip` others after each. */
  size_t run, skip;
};

/* Finds a tensor by name in a list that is sorted by name; NULL where there is none. */
struct xf_tensor *xf_tensor_find(struct xf_tensor *tensors, size_t n, const char *name);
/* Order of names, for qsort. */
int xf_tensor_compare(const void *a, const void *b);
/* Order of data in the file, the shorter of two that begin together first; for qsort. */
int xf_tensor_compare_data(const void *a, const void *b);

#endif
