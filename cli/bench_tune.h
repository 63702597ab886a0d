/* exactflash bench --tune: the best q-blocks of this machine. */
#ifndef XF_CLI_BENCH_TUNE_H
#define XF_CLI_BENCH_TUNE_H

#include <stdbool.h>
#include <stddef.h>

/* Returns an exit code. */
int xf_cli_bench_tune(size_t repetitions, bool json);

#endif
