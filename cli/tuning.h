/* What `bench --tune` found for this CPU, kept in a file: $XF_TUNING (empty: none), else
 * $XDG_CONFIG_HOME/exactflash/tuning.json, else ~/.config/exactflash/tuning.json. It holds a list
 * with an object for each CPU and instruction set: {"cpu", "isa", "q_blocks"}. */
#ifndef XF_CLI_TUNING_H
#define XF_CLI_TUNING_H

#include "exactflash/context.h"

/* Reads the choice for this CPU and isa into q_blocks, zeros where there is none. A file that
 * cannot be used is named in a note and otherwise ignored: it changes speed only. */
void xf_cli_tuning_load(const char *isa, uint32_t q_blocks[static XF_Q_BLOCK_CLASSES]);
/* Writes it. Returns an exit code, failures reported. *path: where it went. */
int xf_cli_tuning_save(const char *isa, const uint32_t q_blocks[static XF_Q_BLOCK_CLASSES],
                       const char **path);

#endif
