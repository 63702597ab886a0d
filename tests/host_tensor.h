/* Tensors as hosts have them: in any order, with gaps, backwards, in front of a guard page. */
#ifndef XF_TESTS_HOST_TENSOR_H
#define XF_TESTS_HOST_TENSOR_H

#include "exactflash/tensor.h"
#include "tests/compare.h"

enum host_order {
  HOST_SEQ_HEADS, /* [batch, seq, heads, dim] */
  HOST_HEADS_SEQ, /* [batch, heads, seq, dim] */
  HOST_ANY_ORDER  /* any, with gaps and negative strides */
};

enum { HOST_POISON = 0xA5, HOST_UNREAD = 0xFF };

/* Memory that ends at a guard page. Between the elements that are read lies 0xFF (NaN), and between
 * those that are written 0xA5. */
struct host_tensor {
  struct guarded memory;
  size_t bytes;
  xf_view view;
};

/* A tensor whose stride is 0 along dimension i where bit i of `same` is set. */
struct host_tensor host_tensor_new(struct rng *rng, xf_type type, uint32_t rank,
                                   const size_t *shape, enum host_order order, unsigned same);
void host_tensor_free(struct host_tensor *t);
/* Writes all elements, given row-major; then the tensor is read-only. */
void host_tensor_fill(struct host_tensor *t, const void *dense);
/* Reads all elements of an f32 tensor, and fails the test where something between them was
 * written. Leaves nothing but poison. */
void host_tensor_take(struct host_tensor *t, const char *what, float *dense);

/* Puts n numbers into a random order. */
void host_shuffle(struct rng *rng, uint32_t n, uint32_t *numbers);

#endif
