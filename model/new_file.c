#include "model/new_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dispatch/error.h"
#include "dispatch/memory.h"
#include "model/file.h"

/* The name that the file will have: where there is one already, that behind its links (in real).
 * The right to create files in the folder is not enough to replace one. */
static xf_status find_target(const char *path, char real[static PATH_MAX], const char **target,
                             xf_error *error)
{
  struct stat status;
  *target = path;
  if (lstat(path, &status) != 0) return XF_OK; /* a new file */
  if (!realpath(path, real)) return xf_file_fail(error, path, "follow the link", errno);
  if (stat(real, &status) != 0) return xf_file_fail(error, path, "stat", errno);
  if (!S_ISREG(status.st_mode)) return xf_fail(error, XF_E_FILE, "%s: is not a regular file", path);
  if (access(real, W_OK) != 0) return xf_file_fail(error, path, "write", errno);
  *target = real;
  return XF_OK;
}

/* The name while it grows: PATH.PID-NUMBER.tmp */
static xf_status open_temporary(struct xf_new_file *file, size_t bytes, xf_error *error)
{
  enum { ATTEMPTS = 1000 };
  for (int i = 0; i < ATTEMPTS; i++) {
    snprintf(file->temporary, bytes, "%s.%ld-%d.tmp", file->path, (long)getpid(), i);
    file->descriptor = open(file->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (file->descriptor >= 0) return XF_OK;
    if (errno != EEXIST) break;
  }
  return xf_file_fail(error, file->temporary, "create", errno);
}

xf_status xf_new_file_create(const char *path, struct xf_new_file *out, xf_error *error)
{
  enum { SUFFIX = 48 };
  char real[PATH_MAX];
  const char *target;
  *out = (struct xf_new_file){0};
  xf_status status = find_target(path, real, &target, error);
  if (status != XF_OK) return status;
  size_t bytes = strlen(target) + 1;
  *out = (struct xf_new_file){xf_alloc(bytes, 1), xf_alloc(bytes + SUFFIX, 1), -1};
  if (!out->path || !out->temporary) {
    status = xf_file_no_memory(error, path);
  } else {
    memcpy(out->path, target, bytes);
    status = open_temporary(out, bytes + SUFFIX, error);
  }
  if (status == XF_OK) return XF_OK;
  xf_free(out->path);
  xf_free(out->temporary);
  *out = (struct xf_new_file){0};
  return status;
}

xf_status xf_new_file_write(struct xf_new_file *file, const void *data, size_t bytes,
                            xf_error *error)
{
  const char *next = data;
  while (bytes > 0) {
    ssize_t n = write(file->descriptor, next, bytes);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return xf_file_fail(error, file->temporary, "write", errno);
    next += n;
    bytes -= (size_t)n;
  }
  return XF_OK;
}

/* So that the name survives a crash; where the file system cannot do that, the file is whole yet.
 */
static void sync_folder(char *path)
{
  char *slash = strrchr(path, '/');
  if (slash) slash[slash == path] = '\0';
  int folder = open(slash ? path : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder < 0) return;
  fsync(folder);
  close(folder);
}

xf_status xf_new_file_commit(struct xf_new_file *file, xf_error *error)
{
  xf_status status = XF_OK;
  if (fsync(file->descriptor) != 0)
    status = xf_file_fail(error, file->temporary, "write", errno);
  else if (rename(file->temporary, file->path) != 0)
    status = xf_file_fail(error, file->path, "rename the new file to", errno);
  else
    sync_folder(file->path);
  if (status == XF_OK) file->temporary[0] = '\0'; /* nothing to remove */
  xf_new_file_discard(file);
  return status;
}

void xf_new_file_discard(struct xf_new_file *file)
{
  if (!file->temporary) return;
  close(file->descriptor);
  if (file->temporary[0]) unlink(file->temporary);
  xf_free(file->path);
  xf_free(file->temporary);
  *file = (struct xf_new_file){0};
}
