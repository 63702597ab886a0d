/* In place of model/file.c's mapping, by the linker's --wrap: a copy of exactly the file's bytes,
 * so that AddressSanitizer sees a read behind them, which a mapping's last page would allow. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "model/file.h"
#include "tests/support.h"

enum { ALIGNMENT = 64 };

xf_status __wrap_xf_file_map(const char *path, struct xf_file *out, xf_error *error);
void __wrap_xf_file_unmap(struct xf_file *file);

xf_status __wrap_xf_file_map(const char *path, struct xf_file *out, xf_error *error)
{
  *out = (struct xf_file){0};
  void *copy = NULL;
  size_t bytes;
  unsigned char *data = read_file(path, &bytes);
  if (bytes > 0 && posix_memalign(&copy, ALIGNMENT, bytes) == 0) memcpy(copy, data, bytes);
  free(data);
  if (bytes > 0 && !copy) return xf_file_fail(error, path, "copy", ENOMEM);
  *out = (struct xf_file){copy, bytes};
  return XF_OK;
}

void __wrap_xf_file_unmap(struct xf_file *file)
{
  free((void *)file->data);
  *file = (struct xf_file){0};
}
