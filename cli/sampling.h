/* How tokens are chosen: the options that commands which generate text share. */
#ifndef XF_CLI_SAMPLING_H
#define XF_CLI_SAMPLING_H

#include "cli/options.h"
#include "exactflash/generate.h"

extern const struct xf_cli_option xf_cli_sampling_options[];

/* Reads --logit_bias; an exit code. To be asked before slow work. */
int xf_cli_sampling_check(const char *command);
/* What was given; valid until the program ends. */
xf_generate_options xf_cli_sampling(void);

#endif
