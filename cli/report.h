/* What the program says to its user, and its exit codes. */
#ifndef XF_CLI_REPORT_H
#define XF_CLI_REPORT_H

#include "exactflash/status.h"

enum {
  XF_CLI_OK = 0,
  XF_CLI_FAILED = 1,       /* something went wrong at run time */
  XF_CLI_USAGE = 2,        /* the command line is wrong */
  XF_CLI_INTERRUPTED = 128 /* plus the signal's number */
};

/* Prints "exactflash: …" as one line on stderr and returns XF_CLI_FAILED. */
__attribute__((format(printf, 1, 2))) int xf_cli_fail(const char *format, ...);
/* The same, with the command whose --help explains it (NULL: the program's); returns
 * XF_CLI_USAGE. */
__attribute__((format(printf, 2, 3))) int xf_cli_misuse(const char *command, const char *format,
                                                        ...);
/* The same for a library's error: silent and 128 + signal where the user asked to stop. */
int xf_cli_error(const xf_error *error);
/* Prints a line that is not an error. */
__attribute__((format(printf, 1, 2))) void xf_cli_note(const char *format, ...);

/* Pushes stdout out to its file or pipe; a failure is reported (once), as it is when something
 * printed earlier was lost. */
int xf_cli_flush(void);

#endif
