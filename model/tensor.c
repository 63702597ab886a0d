#include "model/tensor.h"

#include <stdlib.h>
#include <string.h>

int xf_tensor_compare(const void *a, const void *b)
{
  const struct xf_tensor *x = a, *y = b;
  return strcmp(x->name, y->name);
}

int xf_tensor_compare_data(const void *a, const void *b)
{
  const struct xf_tensor *x = a, *y = b;
  if (x->data != y->data) return (const char *)x->data < (const char *)y->data ? -1 : 1;
  return x->bytes == y->bytes ? 0 : x->bytes < y->bytes ? -1 : 1;
}

struct xf_tensor *xf_tensor_find(struct xf_tensor *tensors, size_t n, const char *name)
{
  const struct xf_tensor key = {.name = name};
  return bsearch(&key, tensors, n, sizeof key, xf_tensor_compare);
}
