/* Callers' size-prefixed structs. */
#ifndef XF_OPTIONS_H
#define XF_OPTIONS_H

#include "exactflash/status.h"

/* Copies a caller's struct, which begins with its struct_size, to one of `size` bytes: an older,
 * shorter one is extended with zeros, NULL is all zeros. name is the type's, for the message. */
xf_status xf_options_read(const char *name, const void *given, void *to, size_t size,
                          xf_error *error);

#endif
