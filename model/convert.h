/* Inside of xf_convert: what goes into the metadata. */
#ifndef XF_MODEL_CONVERT_H
#define XF_MODEL_CONVERT_H

#include "exactflash/convert.h"
#include "model/checkpoint.h"
#include "model/config.h"
#include "model/gguf_write.h"

struct xf_converted {
  const char *path; /* of the checkpoint */
  const struct xf_config *config;
  const xf_plan *plan;
  xf_type type; /* of most weights */
};

/* Everything that is no tensor: of a GGUF file what it has, of a folder what GGUF asks for, with
 * tokenizer and chat template; and the plan. */
xf_status xf_convert_metadata(const struct xf_converted *converted, struct xf_gguf_writer *writer,
                              xf_error *error);
/* The sizes among it. */
void xf_convert_sizes(const struct xf_config *config, struct xf_gguf_writer *writer);

/* xf_convert to a packed file of options->type, by way of one of that type. */
xf_status xf_convert_packed(const xf_context *context, const char *path, const char *output,
                            const xf_convert_options *options, xf_error *error);

#endif
