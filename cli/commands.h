/* The commands, each in the file of its name. */
#ifndef XF_CLI_COMMANDS_H
#define XF_CLI_COMMANDS_H

#include "cli/options.h"

extern const struct xf_cli_command xf_cli_bench;
extern const struct xf_cli_command xf_cli_chat;
extern const struct xf_cli_command xf_cli_completion;
extern const struct xf_cli_command xf_cli_convert;
extern const struct xf_cli_command xf_cli_generate;
extern const struct xf_cli_command xf_cli_info;
extern const struct xf_cli_command xf_cli_logits;
extern const struct xf_cli_command xf_cli_man;
extern const struct xf_cli_command xf_cli_perplexity;
extern const struct xf_cli_command xf_cli_selftest;
extern const struct xf_cli_command xf_cli_tokenize;
extern const struct xf_cli_command xf_cli_verify;

/* All of them in the order of the help, NULL at the end. */
extern const struct xf_cli_command *const xf_cli_commands[];

/* NULL where there is none of that name. */
const struct xf_cli_command *xf_cli_find_command(const char *name);
/* Says so, and what may have been meant; `asked` is the command that was given the name, or NULL.
 * Returns XF_CLI_USAGE. */
int xf_cli_unknown_command(const char *asked, const char *name);

/* Of the program's help and manual page. */
extern const char xf_cli_examples[], xf_cli_exit_status[];

#endif
