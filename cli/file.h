/* Reading whole files, and writing files that are whole or not there. */
#ifndef XF_CLI_FILE_H
#define XF_CLI_FILE_H

#include <stddef.h>
#include <stdio.h>

/* Reads a file, or stdin for "-", into *data (malloc). Returns an exit code, failures reported. */
int xf_cli_read_file(const char *path, char **data, size_t *bytes);

/* A regular file is written under a temporary name beside it and takes its place when it is
 * complete, and is removed by a signal that ends the program before; "-" is stdout, and pipes and
 * devices are written straight away. */
struct xf_cli_output {
  const char *path; /* as the user wrote it, for messages */
  FILE *stream;
  char *temporary, *target; /* NULL where nothing is to be renamed */
};

int xf_cli_output_open(struct xf_cli_output *output, const char *path);
int xf_cli_output_write(struct xf_cli_output *output, const void *data, size_t bytes);
/* Puts the file in its place. */
int xf_cli_output_commit(struct xf_cli_output *output);
/* Removes what was written; nothing to do after a commit. */
void xf_cli_output_discard(struct xf_cli_output *output);

#endif
