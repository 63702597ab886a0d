#include "dispatch/error.h"
#include "dispatch/memory.h"
#include "litert/composite.h"
#include "litert/delegate.h"

struct kernel {
  struct xf_litert *delegate;
  const struct xf_litert_engine *engine;
  struct xf_litert_scratch *scratch;
  size_t n;
  struct xf_composite composites[];
};

static void release(TfLiteContext *graph, void *buffer)
{
  (void)graph;
  struct kernel *kernel = buffer;
  if (!kernel) return;
  xf_litert_drop_scratch(kernel->delegate, kernel->scratch);
  xf_free(kernel);
}

/* Reads the nodes again, which have been claimed: their tensors are as they were. */
static xf_status fill(struct kernel *kernel, TfLiteContext *graph, const TfLiteIntArray *nodes,
                      xf_error *error)
{
  xf_status status = xf_litert_get_engine(kernel->delegate, graph, &kernel->engine, error);
  kernel->scratch = xf_litert_get_scratch(kernel->delegate, graph);
  if (!status && !kernel->scratch) status = xf_fail(error, XF_E_MEMORY, "out of memory");
  for (int i = 0; i < nodes->size && !status; i++) {
    TfLiteNode *node;
    TfLiteRegistration *registration;
    if (graph->GetNodeAndRegistration(graph, nodes->data[i], &node, &registration))
      return xf_fail(error, XF_E_ARGUMENT, "LiteRT does not give node %d", nodes->data[i]);
    status = xf_composite_read(graph, node, &kernel->composites[kernel->n++], error);
  }
  return status;
}

static void *init(TfLiteContext *graph, const char *buffer, size_t length)
{
  (void)length;
  xf_error error;
  const TfLiteDelegateParams *params = (const TfLiteDelegateParams *)(const void *)buffer;
  size_t n = (size_t)params->nodes_to_replace->size;
  struct kernel *kernel = xf_alloc_zeroed(1, sizeof *kernel + n * sizeof *kernel->composites);
  if (!kernel) return NULL;
  kernel->delegate = params->delegate->data_;
  if (fill(kernel, graph, params->nodes_to_replace, &error) == XF_OK) return kernel;
  graph->ReportError(graph, "exactflash: %s", error.message);
  release(graph, kernel);
  return NULL;
}

/* For the largest of its nodes, with the shapes that the tensors have now. */
static xf_status reserve(const struct kernel *kernel, TfLiteContext *graph, xf_error *error)
{
  for (size_t i = 0; i < kernel->n; i++) {
    size_t bytes;
    if (!xf_composite_shape_output(graph, &kernel->composites[i]))
      return xf_fail(error, XF_E_MEMORY, "LiteRT does not give the output its shape");
    xf_status status =
        xf_composite_workspace(kernel->engine, graph, &kernel->composites[i], &bytes, error);
    if (!status && !xf_litert_grow_scratch(kernel->scratch, bytes))
      status = xf_fail(error, XF_E_MEMORY, "out of memory for %zu bytes of workspace", bytes);
    if (status) return status;
  }
  return XF_OK;
}

static xf_status run(const struct kernel *kernel, const TfLiteContext *graph, xf_error *error)
{
  for (size_t i = 0; i < kernel->n; i++) {
    xf_status status = xf_composite_run(kernel->engine, graph, &kernel->composites[i],
                                        kernel->scratch->data, kernel->scratch->bytes, error);
    if (status) return status;
  }
  return XF_OK;
}

static TfLiteStatus answer(TfLiteContext *graph, xf_status status, const xf_error *error)
{
  if (status == XF_OK) return kTfLiteOk;
  graph->ReportError(graph, "exactflash: %s", error->message);
  return kTfLiteError;
}

static TfLiteStatus prepare(TfLiteContext *graph, TfLiteNode *node)
{
  xf_error error = {0};
  if (!node->user_data) return kTfLiteError;
  return answer(graph, reserve(node->user_data, graph, &error), &error);
}

static TfLiteStatus invoke(TfLiteContext *graph, TfLiteNode *node)
{
  xf_error error = {0};
  return answer(graph, run(node->user_data, graph, &error), &error);
}

const TfLiteRegistration xf_litert_kernel = {.init = init,
                                             .free = release,
                                             .prepare = prepare,
                                             .invoke = invoke,
                                             .custom_name = "exactflash",
                                             .version = 1};
