#include "dispatch/options.h"

#include <string.h>

#include "dispatch/error.h"

xf_status xf_options_read(const char *name, const void *given, void *to, size_t size,
                          xf_error *error)
{
  size_t given_size;
  memset(to, 0, size);
  if (!given) return XF_OK;
  memcpy(&given_size, given, sizeof given_size);
  /* All these structs are aligned like a size, so another remainder would cut a field. */
  if (given_size < sizeof given_size || given_size > size || given_size % sizeof given_size)
    return xf_fail(error, XF_E_ARGUMENT, "%s: struct_size %zu; set it to sizeof", name, given_size);
  memcpy(to, given, given_size);
  return XF_OK;
}
