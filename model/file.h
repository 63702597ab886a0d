/* Paths, and read-only mapped files. */
#ifndef XF_MODEL_FILE_H
#define XF_MODEL_FILE_H

#include <stdbool.h>
#include <string.h>

#include "exactflash/status.h"

struct xf_file {
  const unsigned char *data; /* NULL when empty */
  size_t bytes;
};

xf_status xf_file_map(const char *path, struct xf_file *out, xf_error *error);
void xf_file_unmap(struct xf_file *file);

/* A little-endian integer of at most 8 bytes: the library's architectures are little-endian. */
static inline uint64_t xf_load_le(const unsigned char *p, size_t bytes)
{
  uint64_t value = 0;
  memcpy(&value, p, bytes);
  return value;
}

/* "PATH: cannot WHAT: …", with the text of an errno. */
xf_status xf_file_fail(xf_error *error, const char *path, const char *what, int code);

/* "PATH: out of memory" */
xf_status xf_file_no_memory(xf_error *error, const char *path);

/* FOLDER/NAME, whether or not FOLDER ends in slashes, and FOLDER without them where NAME is empty.
 * From xf_alloc; NULL when out of memory. */
char *xf_path_join(const char *folder, const char *name);
bool xf_path_exists(const char *path);
bool xf_path_is_folder(const char *path);
bool xf_path_ends_in(const char *path, const char *suffix);

#endif
