#include "model/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dispatch/error.h"
#include "dispatch/memory.h"

xf_status xf_file_fail(xf_error *error, const char *path, const char *what, int code)
{
  char reason[128];
  return xf_fail(error, XF_E_FILE, "%s: cannot %s: %s", path, what,
                 strerror_r(code, reason, sizeof reason));
}

xf_status xf_file_no_memory(xf_error *error, const char *path)
{
  return xf_fail(error, XF_E_MEMORY, "%s: out of memory", path);
}

static xf_status map(const char *path, int descriptor, struct xf_file *out, xf_error *error)
{
  struct stat status;
  if (fstat(descriptor, &status) != 0) return xf_file_fail(error, path, "stat", errno);
  if (!S_ISREG(status.st_mode)) return xf_fail(error, XF_E_FILE, "%s: is not a regular file", path);
  if (status.st_size == 0) return XF_OK;
  void *data = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, descriptor, 0);
  if (data == MAP_FAILED) return xf_file_fail(error, path, "map", errno);
  out->data = data;
  out->bytes = (size_t)status.st_size;
  return XF_OK;
}

xf_status xf_file_map(const char *path, struct xf_file *out, xf_error *error)
{
  *out = (struct xf_file){0};
  /* O_NONBLOCK: opening a pipe must fail, not wait for its writer. */
  int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) return xf_file_fail(error, path, "open", errno);
  xf_status status = map(path, descriptor, out, error);
  close(descriptor);
  return status;
}

void xf_file_unmap(struct xf_file *file)
{
  if (file->data) munmap((void *)(uintptr_t)file->data, file->bytes);
  *file = (struct xf_file){0};
}

char *xf_path_join(const char *folder, const char *name)
{
  size_t n = strlen(folder), bytes = n + strlen(name) + 2;
  while (n > 1 && folder[n - 1] == '/') n--;
  bool parted = !*name || (n > 0 && folder[n - 1] == '/');
  char *path = xf_alloc(bytes, 1);
  if (path) snprintf(path, bytes, "%.*s%s%s", (int)n, folder, parted ? "" : "/", name);
  return path;
}

bool xf_path_exists(const char *path)
{
  struct stat status;
  return stat(path, &status) == 0;
}

bool xf_path_is_folder(const char *path)
{
  struct stat status;
  return stat(path, &status) == 0 && S_ISDIR(status.st_mode);
}

bool xf_path_ends_in(const char *path, const char *suffix)
{
  size_t bytes = strlen(path), end = strlen(suffix);
  return bytes >= end && strcmp(path + bytes - end, suffix) == 0;
}
