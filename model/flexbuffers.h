/* FlexBuffers, as far as .tflite files need them: a map of names to numbers.
 * https://flatbuffers.dev/internals, "FlexBuffers" */
#ifndef XF_MODEL_FLEXBUFFERS_H
#define XF_MODEL_FLEXBUFFERS_H

#include <stdbool.h>

#include "exactflash/status.h"

struct xf_flex_number {
  const char *name;
  double value;
  bool found;
};

/* Sets value and found of the wanted numbers that the map has; an absent one stays as it is. No
 * bytes at all are an empty map. XF_E_FORMAT: the bytes are no such map; XF_E_UNSUPPORTED: the map
 * has a name that is not wanted. The message begins with what, as "what: …". */
xf_status xf_flex_read_numbers(const char *what, const unsigned char *data, size_t bytes,
                               struct xf_flex_number *wanted, size_t n, xf_error *error);

#endif
