#include "litert/engine.h"

#include "dispatch/error.h"
#include "dispatch/memory.h"

/* A tenth of a millisecond on one thread: waking another one takes some hundredths. */
static const double ALONE = 4e6;

static xf_status fill(const struct xf_litert_options *options, struct xf_litert_engine *engine,
                      xf_error *error)
{
  xf_context_options context = {
      .struct_size = sizeof context, .isa = options->isa[0] ? options->isa : NULL, .threads = 1};
  xf_status status = xf_context_create(&context, &engine->alone, error);
  engine->all = engine->alone;
  if (status || engine->threads == 1) return status;
  engine->pool = xf_pool_create(engine->threads, false, XF_POOL_SLEEPS);
  if (!engine->pool) return xf_fail(error, XF_E_MEMORY, "cannot start %u threads", engine->threads);
  context.threads = engine->threads;
  context.parallel_for = xf_pool_run;
  context.pool = engine->pool;
  return xf_context_create(&context, &engine->all, error);
}

xf_status xf_litert_engine_create(const struct xf_litert_options *options, uint32_t threads,
                                  struct xf_litert_engine **out, xf_error *error)
{
  struct xf_litert_engine *engine = *out = xf_alloc_zeroed(1, sizeof *engine);
  if (!engine) return xf_fail(error, XF_E_MEMORY, "out of memory");
  engine->threads = threads;
  xf_status status = fill(options, engine, error);
  if (!status) return XF_OK;
  xf_litert_engine_destroy(engine);
  *out = NULL;
  return status;
}

void xf_litert_engine_destroy(struct xf_litert_engine *engine)
{
  if (!engine) return;
  if (engine->all != engine->alone) xf_context_destroy(engine->all);
  xf_context_destroy(engine->alone);
  xf_pool_destroy(engine->pool);
  xf_free(engine);
}

const xf_context *xf_litert_engine_for(const struct xf_litert_engine *engine, double work)
{
  return work < ALONE ? engine->alone : engine->all;
}
