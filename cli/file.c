#include "cli/file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/report.h"
#include "cli/unfinished.h"

static int read_stream(FILE *stream, const char *path, char **data, size_t *bytes)
{
  size_t capacity = 0;
  *data = NULL;
  *bytes = 0;
  for (size_t got = 1; got > 0; *bytes += got) {
    if (*bytes == capacity) {
      char *larger = realloc(*data, capacity = capacity ? 2 * capacity : 65536);
      if (!larger) return xf_cli_fail("out of memory for %s", path);
      *data = larger;
    }
    errno = 0;
    got = fread(*data + *bytes, 1, capacity - *bytes, stream);
  }
  if (ferror(stream)) return xf_cli_fail("cannot read %s: %s", path, strerror(errno));
  return XF_CLI_OK;
}

int xf_cli_read_file(const char *path, char **data, size_t *bytes)
{
  *data = NULL;
  if (strcmp(path, "-") == 0) return read_stream(stdin, "standard input", data, bytes);
  FILE *stream = fopen(path, "rb");
  if (!stream) return xf_cli_fail("cannot open %s: %s", path, strerror(errno));
  int code = read_stream(stream, path, data, bytes);
  fclose(stream);
  return code;
}

static int cannot_write(const struct xf_cli_output *output)
{
  return xf_cli_fail("cannot write %s: %s", output->path, strerror(errno ? errno : EIO));
}

/* Whether the path is, or will be, a regular file; *target is then the name to write (malloc). A
 * link stays a link to the new file. */
static int is_regular(const char *path, char **target)
{
  struct stat status;
  *target = NULL;
  if (stat(path, &status) == 0) {
    if (!S_ISREG(status.st_mode)) return 0;
    *target = realpath(path, NULL);
  } else {
    *target = strdup(path);
  }
  return 1;
}

static FILE *open_temporary(struct xf_cli_output *output)
{
  size_t size = strlen(output->target) + 32;
  output->temporary = malloc(size);
  if (!output->temporary) return NULL;
  snprintf(output->temporary, size, "%s.%ld.tmp", output->target, (long)getpid());
  int fd = xf_cli_unfinished_create(output->temporary);
  if (fd >= 0) return fdopen(fd, "wb");
  free(output->temporary);
  output->temporary = NULL;
  return NULL;
}

int xf_cli_output_open(struct xf_cli_output *output, const char *path)
{
  *output = (struct xf_cli_output){.path = path};
  errno = 0;
  if (strcmp(path, "-") == 0) {
    output->path = "standard output";
    output->stream = stdout;
  } else if (!is_regular(path, &output->target)) {
    output->stream = fopen(path, "wb");
  } else if (output->target) {
    /* Neither the right to create files in the folder nor that to write this one is enough. */
    if (access(output->target, F_OK) == 0 && access(output->target, W_OK) != 0)
      return cannot_write(output);
    output->stream = open_temporary(output);
  }
  return output->stream ? XF_CLI_OK : cannot_write(output);
}

int xf_cli_output_write(struct xf_cli_output *output, const void *data, size_t bytes)
{
  errno = 0;
  return fwrite(data, 1, bytes, output->stream) == bytes ? XF_CLI_OK : cannot_write(output);
}

int xf_cli_output_commit(struct xf_cli_output *output)
{
  errno = 0;
  FILE *stream = output->stream;
  int failed = fflush(stream);
  if (stream != stdout) {
    output->stream = NULL;
    failed |= fclose(stream);
  }
  if (!failed && output->temporary)
    failed = xf_cli_unfinished_rename(output->temporary, output->target);
  if (failed) return cannot_write(output);
  free(output->temporary);
  output->temporary = NULL;
  return XF_CLI_OK;
}

void xf_cli_output_discard(struct xf_cli_output *output)
{
  if (output->stream && output->stream != stdout) fclose(output->stream);
  if (output->temporary) xf_cli_unfinished_remove(output->temporary);
  free(output->temporary);
  free(output->target);
  *output = (struct xf_cli_output){0};
}
