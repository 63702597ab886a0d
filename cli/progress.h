/* A line of progress on stderr, while that is a terminal. */
#ifndef XF_CLI_PROGRESS_H
#define XF_CLI_PROGRESS_H

#include <stddef.h>

/* An xf_progress: shows the stage and how far it is; asks to cancel after Ctrl-C. */
int xf_cli_progress(void *arg, const char *stage, size_t done, size_t total);
/* Takes the line away, so that something else can be printed. */
void xf_cli_progress_clear(void);

#endif
