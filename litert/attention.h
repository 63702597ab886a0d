/* odml.scaled_dot_product_attention as xf_attention computes it. */
#ifndef XF_LITERT_ATTENTION_H
#define XF_LITERT_ATTENTION_H

#include "exactflash/context.h"
#include "litert/composite.h"

xf_status xf_litert_attention_workspace(const struct xf_litert_engine *engine,
                                        const TfLiteContext *context,
                                        const struct xf_composite *composite, size_t *bytes,
                                        xf_error *error);
xf_status xf_litert_attention_run(const struct xf_litert_engine *engine,
                                  const TfLiteContext *context,
                                  const struct xf_composite *composite, void *workspace,
                                  size_t bytes, xf_error *error);

#endif
