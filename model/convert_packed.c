/* Packed files of another type than the checkpoint's: panels are made of files, so that one lies
 * beside the output for a while. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "dispatch/memory.h"
#include "model/convert.h"
#include "model/file.h"

xf_status xf_convert_packed(const xf_context *context, const char *path, const char *output,
                            const xf_convert_options *options, xf_error *error)
{
  enum { SUFFIX = 48 };
  size_t bytes = strlen(output) + SUFFIX;
  char *between = xf_alloc(bytes, 1);
  if (!between) return xf_file_no_memory(error, output);
  snprintf(between, bytes, "%s.%ld-plain.tmp", output, (long)getpid());
  xf_convert_options plain = *options, packed = *options;
  plain.packed = 0;
  plain.force = 0;
  packed.type = 0;
  xf_status status = xf_convert(context, path, between, &plain, error);
  if (!status) {
    status = xf_convert(context, between, output, &packed, error);
    unlink(between);
  }
  xf_free(between);
  return status;
}
