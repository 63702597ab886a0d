#include "litert/delegate.h"

#include "dispatch/error.h"
#include "dispatch/memory.h"

#define XF_PLUGIN __attribute__((visibility("default")))

/* What LiteRT looks for in a delegate's library; the names are its own. */
XF_PLUGIN TfLiteDelegate *tflite_plugin_create_delegate(const char *const *keys,
                                                        const char *const *values, size_t n,
                                                        void (*report_error)(const char *));
XF_PLUGIN void tflite_plugin_destroy_delegate(TfLiteDelegate *delegate);

/* An interpreter that was not told a number runs with one thread. */
static uint32_t threads_for(const struct xf_litert *delegate, const TfLiteContext *graph)
{
  if (delegate->options.threads) return delegate->options.threads;
  return graph->recommended_num_threads > 0 ? (uint32_t)graph->recommended_num_threads : 1;
}

xf_status xf_litert_get_engine(struct xf_litert *delegate, const TfLiteContext *graph,
                               const struct xf_litert_engine **out, xf_error *error)
{
  xf_status status = XF_OK;
  uint32_t threads = threads_for(delegate, graph);
  pthread_mutex_lock(&delegate->lock);
  struct xf_litert_engine *engine = delegate->engines;
  while (engine && engine->threads != threads) engine = engine->next;
  if (!engine) {
    status = xf_litert_engine_create(&delegate->options, threads, &engine, error);
    if (!status) {
      engine->next = delegate->engines;
      delegate->engines = engine;
    }
  }
  pthread_mutex_unlock(&delegate->lock);
  if (!status) *out = engine;
  return status;
}

struct xf_litert_scratch *xf_litert_get_scratch(struct xf_litert *delegate,
                                                const TfLiteContext *graph)
{
  pthread_mutex_lock(&delegate->lock);
  struct xf_litert_scratch *scratch = delegate->scratches;
  while (scratch && scratch->graph != graph) scratch = scratch->next;
  if (!scratch) {
    scratch = xf_alloc_zeroed(1, sizeof *scratch);
    if (scratch) {
      scratch->graph = graph;
      scratch->next = delegate->scratches;
      delegate->scratches = scratch;
    }
  }
  if (scratch) scratch->users++;
  pthread_mutex_unlock(&delegate->lock);
  return scratch;
}

void xf_litert_drop_scratch(struct xf_litert *delegate, struct xf_litert_scratch *scratch)
{
  if (!scratch) return;
  pthread_mutex_lock(&delegate->lock);
  if (--scratch->users == 0) {
    struct xf_litert_scratch **link = &delegate->scratches;
    while (*link != scratch) link = &(*link)->next;
    *link = scratch->next;
    xf_free(scratch->data);
    xf_free(scratch);
  }
  pthread_mutex_unlock(&delegate->lock);
}

bool xf_litert_grow_scratch(struct xf_litert_scratch *scratch, size_t bytes)
{
  if (bytes <= scratch->bytes) return true;
  xf_free(scratch->data);
  scratch->data = xf_alloc(bytes, 1);
  scratch->bytes = scratch->data ? bytes : 0;
  return scratch->data != NULL;
}

TfLiteDelegate *tflite_plugin_create_delegate(const char *const *keys, const char *const *values,
                                              size_t n, void (*report_error)(const char *))
{
  xf_error error = {0};
  struct xf_litert_options options;
  struct xf_litert *delegate = NULL;
  if (xf_litert_options_read(keys, values, n, &options, &error) == XF_OK) {
    delegate = xf_alloc_zeroed(1, sizeof *delegate);
    if (!delegate) {
      xf_litert_options_close(&options);
      xf_fail(&error, XF_E_MEMORY, "out of memory");
    }
  }
  if (!delegate) {
    if (report_error) report_error(error.message);
    return NULL;
  }
  delegate->base = (TfLiteDelegate){.data_ = delegate,
                                    .Prepare = xf_litert_claim,
                                    .flags = kTfLiteDelegateFlagsAllowDynamicTensors};
  delegate->options = options;
  pthread_mutex_init(&delegate->lock, NULL);
  return &delegate->base;
}

void tflite_plugin_destroy_delegate(TfLiteDelegate *base)
{
  if (!base) return;
  struct xf_litert *delegate = base->data_;
  while (delegate->engines) {
    struct xf_litert_engine *engine = delegate->engines;
    delegate->engines = engine->next;
    xf_litert_engine_destroy(engine);
  }
  xf_litert_options_close(&delegate->options);
  pthread_mutex_destroy(&delegate->lock);
  xf_free(delegate);
}
