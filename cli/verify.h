/* exactflash verify: its three kinds, each returning an exit code. */
#ifndef XF_CLI_VERIFY_H
#define XF_CLI_VERIFY_H

#include <stdbool.h>

#include "cli/checks.h"
#include "cli/options.h"

/* What verify flash and verify converted try. */
struct xf_cli_tries {
  const struct xf_cli_list *prompts;
  bool attentions; /* are compared: with one prompt more, of 600 tokens, and exact activations */
  size_t most;     /* tokens to generate behind each */
};

int xf_cli_verify_flash(const struct xf_cli_tries *tries, struct xf_cli_checks *checks);
int xf_cli_verify_converted(const char *converted, const char *checkpoint,
                            const struct xf_cli_tries *tries, struct xf_cli_checks *checks);
/* quick: three configurations of each ISA, instead of all. */
int xf_cli_verify_bits(bool quick, struct xf_cli_checks *checks);

#endif
