#include <stdarg.h>
#include <stdio.h>

#include "dispatch/error.h"
#include "dispatch/memory.h"
#include "litert/composite.h"
#include "litert/delegate.h"
#include "litert/layout.h"

struct claims {
  TfLiteContext *graph;
  struct xf_litert *delegate;
  const struct xf_litert_engine *engine;
  size_t plan;           /* nodes of the graph */
  TfLiteIntArray *nodes; /* with room for all of them */
  size_t n[XF_COMPOSITE_KINDS];
};

/* A line of the report. */
__attribute__((format(printf, 2, 3))) static void report(const struct claims *claims,
                                                         const char *format, ...)
{
  FILE *file = claims->delegate->options.report;
  if (!file) return;
  char text[800];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  fprintf(file, "exactflash: graph of %zu nodes: %s\n", claims->plan, text);
  fflush(file);
}

/* Whether we compute the node, with the reason why not. */
static xf_status judge(const struct claims *claims, const TfLiteNode *node,
                       struct xf_composite *composite, xf_error *error)
{
  size_t bytes;
  xf_status status = xf_composite_read(claims->graph, node, composite, error);
  if (!status && composite->kind == XF_COMPOSITE_RMS_NORM && !claims->delegate->options.rms_norm)
    status = xf_fail(error, XF_E_UNSUPPORTED, "the option rms_norm is 0");
  return status ? status
                : xf_composite_workspace(claims->engine, claims->graph, composite, &bytes, error);
}

/* XF_OK whether or not the node is claimed. */
static xf_status visit(struct claims *claims, int index, xf_error *error)
{
  TfLiteNode *node = NULL;
  TfLiteRegistration *registration = NULL;
  struct xf_composite composite;
  xf_error reason;
  if (claims->graph->GetNodeAndRegistration(claims->graph, index, &node, &registration))
    return xf_fail(error, XF_E_ARGUMENT, "LiteRT does not give node %d", index);
  xf_status status = xf_litert_check_node(claims->graph, node, registration, error);
  if (status || !xf_composite_is(node, registration)) return status;
  if (judge(claims, node, &composite, &reason)) {
    report(claims, "node %d is left to LiteRT: %s", index, reason.message);
    return XF_OK;
  }
  claims->nodes->data[claims->nodes->size++] = index;
  claims->n[composite.kind]++;
  return XF_OK;
}

/* The plan is LiteRT's own, and lasts until the graph changes. */
static xf_status visit_all(struct claims *claims, const TfLiteIntArray *plan, xf_error *error)
{
  size_t n = claims->plan = plan->size > 0 ? (size_t)plan->size : 0;
  claims->nodes = xf_alloc_zeroed(n + 1, sizeof *claims->nodes->data);
  if (!claims->nodes) return xf_fail(error, XF_E_MEMORY, "out of memory");
  for (size_t i = 0; i < n; i++) {
    xf_status status = visit(claims, plan->data[i], error);
    if (status) return status;
  }
  return XF_OK;
}

static xf_status take(struct claims *claims, xf_error *error)
{
  TfLiteContext *graph = claims->graph;
  TfLiteIntArray *plan = NULL;
  xf_status status = xf_litert_check_context(graph, error);
  if (!status) status = xf_litert_get_engine(claims->delegate, graph, &claims->engine, error);
  if (status) return status;
  if (graph->GetExecutionPlan(graph, &plan) || !plan)
    return xf_fail(error, XF_E_ARGUMENT, "LiteRT does not give its execution plan");
  return visit_all(claims, plan, error);
}

/* A graph that we cannot read is LiteRT's: that is no failure of the interpreter. */
TfLiteStatus xf_litert_claim(TfLiteContext *graph, TfLiteDelegate *base)
{
  xf_error error;
  struct claims claims = {.graph = graph, .delegate = base->data_};
  TfLiteStatus done = kTfLiteOk;
  if (take(&claims, &error)) {
    report(&claims, "left to LiteRT: %s", error.message);
  } else {
    report(&claims, "claimed %zu of %s and %zu of %s", claims.n[XF_COMPOSITE_ATTENTION],
           xf_composite_name(XF_COMPOSITE_ATTENTION), claims.n[XF_COMPOSITE_RMS_NORM],
           xf_composite_name(XF_COMPOSITE_RMS_NORM));
    if (claims.nodes->size > 0)
      done =
          graph->ReplaceNodeSubsetsWithDelegateKernels(graph, xf_litert_kernel, claims.nodes, base);
  }
  xf_free(claims.nodes);
  return done;
}
