/* A delegate: what its interpreters share. */
#ifndef XF_LITERT_DELEGATE_H
#define XF_LITERT_DELEGATE_H

#include <pthread.h>

#include "litert/abi.h"
#include "litert/engine.h"

/* The memory in which a graph's nodes, which run one after another, compute. */
struct xf_litert_scratch {
  const TfLiteContext *graph;
  void *data; /* aligned to 64 */
  size_t bytes;
  size_t users; /* the graph's kernels that are there */
  struct xf_litert_scratch *next;
};

struct xf_litert {
  TfLiteDelegate base; /* first: LiteRT has its address */
  struct xf_litert_options options;
  pthread_mutex_t lock;             /* of the lists */
  struct xf_litert_engine *engines; /* for each number of threads that was asked for */
  struct xf_litert_scratch *scratches;
};

/* The one with that interpreter's number of threads; it lives as long as the delegate. */
xf_status xf_litert_get_engine(struct xf_litert *delegate, const TfLiteContext *graph,
                               const struct xf_litert_engine **out, xf_error *error);

/* The graph's memory, for one more user, and for one less (NULL is allowed). */
struct xf_litert_scratch *xf_litert_get_scratch(struct xf_litert *delegate,
                                                const TfLiteContext *graph);
void xf_litert_drop_scratch(struct xf_litert *delegate, struct xf_litert_scratch *scratch);
/* Only grows; what it held is lost. False: out of memory. */
bool xf_litert_grow_scratch(struct xf_litert_scratch *scratch, size_t bytes);

/* Claims the nodes of a graph that we compute; LiteRT calls it for each graph of a model. */
TfLiteStatus xf_litert_claim(TfLiteContext *graph, TfLiteDelegate *delegate);

/* Computes nodes that were claimed; LiteRT makes one for nodes that follow each other. */
extern const TfLiteRegistration xf_litert_kernel;

#endif
