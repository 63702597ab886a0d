/* exactflash bench memory: the working memory of flash and of standard attention. */
#ifndef XF_CLI_BENCH_MEMORY_H
#define XF_CLI_BENCH_MEMORY_H

#include <stdbool.h>

#include "cli/options.h"

extern const struct xf_cli_option xf_cli_bench_memory_options[];

/* Returns an exit code. */
int xf_cli_bench_memory(bool json);

#endif
