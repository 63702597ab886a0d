#include "cli/report.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "cli/interrupt.h"
#include "cli/progress.h"

/* One line, whatever a file name or argument in it holds. */
static void print_line(const char *format, va_list arguments, const char *tail)
{
  char text[1024];
  vsnprintf(text, sizeof text, format, arguments);
  for (char *c = text; *c; c++)
    if ((unsigned char)*c < ' ' || *c == 0x7F) *c = '?';
  xf_cli_progress_clear();
  fprintf(stderr, "exactflash: %s%s\n", text, tail);
}

int xf_cli_fail(const char *format, ...)
{
  va_list arguments;
  va_start(arguments, format);
  print_line(format, arguments, "");
  va_end(arguments);
  return XF_CLI_FAILED;
}

int xf_cli_misuse(const char *command, const char *format, ...)
{
  char tail[64];
  snprintf(tail, sizeof tail, " (see exactflash %s%s--help)", command ? command : "",
           command ? " " : "");
  va_list arguments;
  va_start(arguments, format);
  print_line(format, arguments, tail);
  va_end(arguments);
  return XF_CLI_USAGE;
}

int xf_cli_error(const xf_error *error)
{
  int signal = xf_cli_interrupted();
  if (error->status != XF_E_CANCELLED || !signal) return xf_cli_fail("%s", error->message);
  xf_cli_progress_clear();
  return XF_CLI_INTERRUPTED + signal;
}

void xf_cli_note(const char *format, ...)
{
  va_list arguments;
  va_start(arguments, format);
  print_line(format, arguments, "");
  va_end(arguments);
}

int xf_cli_flush(void)
{
  static int reported;
  errno = 0;
  if (fflush(stdout) == 0 && !ferror(stdout)) return XF_CLI_OK;
  if (reported++) return XF_CLI_FAILED;
  return xf_cli_fail("cannot write standard output: %s", strerror(errno ? errno : EIO));
}
