/* A file that has its name only once it is whole: it grows under another name beside it, is synced
 * to the disk and then renamed, in place of a file that had the name. A link to a file stays one.
 * What is no regular file, or may not be written, is not replaced. */
#ifndef XF_MODEL_NEW_FILE_H
#define XF_MODEL_NEW_FILE_H

#include "exactflash/status.h"

struct xf_new_file {
  char *path, *temporary; /* temporary: NULL when closed */
  int descriptor;
};

xf_status xf_new_file_create(const char *path, struct xf_new_file *out, xf_error *error);
/* Appends. */
xf_status xf_new_file_write(struct xf_new_file *file, const void *data, size_t bytes,
                            xf_error *error);
/* Leaves *file empty, also on failure: then nothing is left of the file. */
xf_status xf_new_file_commit(struct xf_new_file *file, xf_error *error);
/* Removes what was written. An empty one is allowed. */
void xf_new_file_discard(struct xf_new_file *file);

#endif
