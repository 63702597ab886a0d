#include "cli/input.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/interrupt.h"
#include "cli/report.h"

enum { PART = 4096 };

/* Takes the first bytes out; `end` bytes end them. */
static enum xf_cli_line take(struct xf_cli_input *in, size_t length, size_t end, const char **line,
                             size_t *bytes)
{
  *line = in->data + in->from;
  *bytes = length;
  if (length && in->data[in->from + length - 1] == '\r') --*bytes;
  in->from += length + end;
  return XF_CLI_LINE;
}

/* Room for a part more; what was taken out is given up. */
static int make_room(struct xf_cli_input *in)
{
  if (in->from) memmove(in->data, in->data + in->from, in->n - in->from);
  in->n -= in->from;
  in->from = 0;
  if (in->n + PART <= in->room) return 1;
  size_t room = 2 * in->room + PART;
  char *data = realloc(in->data, room);
  if (!data) return 0;
  in->data = data;
  in->room = room;
  return 1;
}

enum xf_cli_line xf_cli_read_line(struct xf_cli_input *in, const char **line, size_t *bytes)
{
  for (size_t seen = 0;;) {
    size_t length = in->n - in->from;
    const char *end =
        length > seen ? memchr(in->data + in->from + seen, '\n', length - seen) : NULL;
    if (end) return take(in, (size_t)(end - in->data) - in->from, 1, line, bytes);
    if (in->ended) return length ? take(in, length, 0, line, bytes) : XF_CLI_LINE_END;
    seen = length;
    if (!xf_cli_interrupt_wait(STDIN_FILENO)) return XF_CLI_LINE_SIGNAL;
    if (!make_room(in)) {
      xf_cli_fail("out of memory for the input");
      return XF_CLI_LINE_FAILED;
    }
    ssize_t n = read(STDIN_FILENO, in->data + in->n, PART);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      xf_cli_fail("cannot read standard input: %s", strerror(errno));
      return XF_CLI_LINE_FAILED;
    }
    in->ended = n == 0;
    in->n += (size_t)n;
  }
}

void xf_cli_input_free(struct xf_cli_input *input)
{
  free(input->data);
  *input = (struct xf_cli_input){0};
}
