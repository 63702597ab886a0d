/* The key/value list of a delegate. */
#ifndef XF_LITERT_OPTIONS_H
#define XF_LITERT_OPTIONS_H

#include <stdbool.h>
#include <stdio.h>

#include "exactflash/context.h"

struct xf_litert_options {
  uint32_t threads; /* 0: as many as the interpreter has been given */
  char isa[16];     /* "": as xf_context_options has it for NULL */
  bool rms_norm;    /* odml.rms_norm is computed too */
  FILE *report;     /* NULL: none wanted */
};

/* XF_E_ARGUMENT, XF_E_FILE or XF_E_CPU with a message that names key and value; nothing is left
 * open then. */
xf_status xf_litert_options_read(const char *const *keys, const char *const *values, size_t n,
                                 struct xf_litert_options *out, xf_error *error);
void xf_litert_options_close(struct xf_litert_options *options);

#endif
