/* The contexts in which nodes are computed. */
#ifndef XF_LITERT_ENGINE_H
#define XF_LITERT_ENGINE_H

#include "dispatch/pool.h"
#include "exactflash/context.h"
#include "litert/options.h"

/* Of interpreters with one number of threads. Between our nodes LiteRT's own threads work, on as
 * many cores as ours would: to wake ours pays where there is much to do. */
struct xf_litert_engine {
  xf_context *alone, *all; /* the same one where threads is 1 */
  struct xf_pool *pool;    /* NULL there */
  uint32_t threads;
  struct xf_litert_engine *next;
};

/* XF_E_MEMORY, or what xf_context_create says. */
xf_status xf_litert_engine_create(const struct xf_litert_options *options, uint32_t threads,
                                  struct xf_litert_engine **out, xf_error *error);
void xf_litert_engine_destroy(struct xf_litert_engine *engine); /* NULL is allowed */

/* The one for so many multiplications, a number that is read from memory counted as four. */
const xf_context *xf_litert_engine_for(const struct xf_litert_engine *engine, double work);

#endif
