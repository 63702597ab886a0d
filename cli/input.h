/* Lines of standard input, as they come. */
#ifndef XF_CLI_INPUT_H
#define XF_CLI_INPUT_H

#include <stddef.h>

struct xf_cli_input {
  char *data; /* [n] of [room]; malloc */
  size_t from, n, room;
  int ended;
};

enum xf_cli_line {
  XF_CLI_LINE,
  XF_CLI_LINE_END,    /* no more lines */
  XF_CLI_LINE_SIGNAL, /* one arrived; a terminal has thrown the unfinished line away */
  XF_CLI_LINE_FAILED  /* and reported */
};

/* *line has *bytes bytes, without its end ("\n" or "\r\n"), valid until the next call; the last one
 * may lack its end. */
enum xf_cli_line xf_cli_read_line(struct xf_cli_input *input, const char **line, size_t *bytes);
void xf_cli_input_free(struct xf_cli_input *input);

#endif
