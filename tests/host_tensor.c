#include "tests/host_tensor.h"

#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

void host_shuffle(struct rng *rng, uint32_t n, uint32_t *order)
{
  for (uint32_t i = n; i > 1; i--) {
    uint32_t j = (uint32_t)rng_below(rng, i), kept = order[i - 1];
    order[i - 1] = order[j], order[j] = kept;
  }
}

struct host_tensor host_tensor_new(struct rng *rng, xf_type type, uint32_t rank,
                                   const size_t *shape, enum host_order order, unsigned same)
{
  struct host_tensor t = {.view = {.type = type, .rank = rank}};
  size_t size = xf_type_size(type), before = 0, empty = 0;
  uint32_t dims[4] = {0, 1, 2, 3}, free_dims = rank == 4 && type != XF_BOOL ? 3 : rank;
  if (order == HOST_HEADS_SEQ && rank > 2) dims[1] = 2, dims[2] = 1;
  if (order == HOST_ANY_ORDER) host_shuffle(rng, free_dims, dims);
  t.bytes = size;
  for (uint32_t i = rank; i-- > 0;) {
    uint32_t dim = dims[i];
    bool innermost = dim == rank - 1 && rank == 4;
    size_t gap = order == HOST_ANY_ORDER && !innermost ? rng_below(rng, 4) * size : 0;
    int64_t stride = (int64_t)(t.bytes + gap);
    size_t reach = shape[dim] ? (shape[dim] - 1) * (size_t)stride : 0;
    empty |= shape[dim] == 0;
    t.view.shape[dim] = (int64_t)shape[dim];
    if (same >> dim & 1) continue;
    t.view.stride[dim] = stride;
    t.bytes += reach;
    if (order != HOST_ANY_ORDER || innermost || rng_below(rng, 3)) continue;
    t.view.stride[dim] = -stride;
    before += reach;
  }
  if (empty) t.bytes = before = 0;
  t.memory = guarded_new(t.bytes);
  t.view.data = (char *)t.memory.data + before;
  return t;
}

static char *element_at(const xf_view *view, size_t at)
{
  char *p = (char *)(uintptr_t)view->data;
  for (uint32_t i = view->rank; i-- > 0; at /= (size_t)view->shape[i])
    p += (int64_t)(at % (size_t)view->shape[i]) * view->stride[i];
  return p;
}

static size_t elements_of(const xf_view *view)
{
  size_t n = 1;
  for (uint32_t i = 0; i < view->rank; i++) n *= (size_t)view->shape[i];
  return n;
}

void host_tensor_fill(struct host_tensor *t, const void *dense)
{
  size_t size = xf_type_size(t->view.type), n = elements_of(&t->view);
  size_t page = (size_t)sysconf(_SC_PAGESIZE);
  memset(t->memory.data, HOST_UNREAD, t->bytes);
  for (size_t i = 0; i < n; i++)
    memcpy(element_at(&t->view, i), (const char *)dense + i * size, size);
  if (t->memory.mapped > 2 * page)
    assert_int_equal(
        mprotect((char *)t->memory.mapping + page, t->memory.mapped - 2 * page, PROT_READ), 0);
}

void host_tensor_free(struct host_tensor *t)
{
  if (t->memory.mapping) guarded_free(&t->memory);
}

void host_tensor_take(struct host_tensor *t, const char *what, float *dense)
{
  size_t n = elements_of(&t->view);
  for (size_t i = 0; i < n; i++) {
    char *at = element_at(&t->view, i);
    memcpy(dense + i, at, sizeof *dense);
    memset(at, HOST_POISON, sizeof *dense);
  }
  expect_poison(what, "any", t->memory.data, t->bytes / sizeof(float));
}
