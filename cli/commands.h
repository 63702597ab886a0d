/* The commands, each in the file of its name. */
#ifndef XF_CLI_COMMANDS_H
#define XF_CLI_COMMANDS_H

#include "cli/options.h"

extern const struct xf_cli_command xf_cli_generate;
extern const struct xf_cli_command xf_cli_info;
extern const struct xf_cli_command xf_cli_logits;
extern const struct xf_cli_command xf_cli_tokenize;

#endif
