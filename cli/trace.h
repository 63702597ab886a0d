/* --trace: a timeline of every operator, as a whole and per thread, in the format of Chrome's trace
 * viewer (chrome://tracing, https://ui.perfetto.dev). */
#ifndef XF_CLI_TRACE_H
#define XF_CLI_TRACE_H

#include "cli/options.h"
#include "exactflash/exactflash.h"

/* The value of --trace. */
extern const char *xf_cli_trace_path;

/* Opens the file, where one was asked for. Returns an exit code, failures reported. */
int xf_cli_trace_begin(void);
/* Has the options' context and model tell what they do, where a trace was begun. */
void xf_cli_trace_context(xf_context_options *options);
void xf_cli_trace_model(xf_model_options *options);
/* Puts the file in its place if the command's exit code is that of a success or of Ctrl-C. Returns
 * that code, or XF_CLI_FAILED where the file cannot be written. */
int xf_cli_trace_end(int code);

#endif
