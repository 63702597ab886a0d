#include "cli/commands.h"

#include <string.h>

#include "cli/report.h"

const struct xf_cli_command *const xf_cli_commands[] = {&xf_cli_generate,
                                                        &xf_cli_chat,
                                                        &xf_cli_perplexity,
                                                        &xf_cli_logits,
                                                        &xf_cli_tokenize,
                                                        &xf_cli_info,
                                                        &xf_cli_bench,
                                                        &xf_cli_selftest,
                                                        &xf_cli_convert,
                                                        &xf_cli_verify,
                                                        &xf_cli_man,
                                                        &xf_cli_completion,
                                                        NULL};

enum { N_COMMANDS = sizeof xf_cli_commands / sizeof *xf_cli_commands - 1 };

const char xf_cli_examples[] = "  exactflash generate -p \"Once upon a time\"\n"
                               "  exactflash generate --help\n";
const char xf_cli_exit_status[] = "0 success, 1 failure, 2 wrong usage, 130 stopped by Ctrl-C";

const struct xf_cli_command *xf_cli_find_command(const char *name)
{
  for (size_t i = 0; i < N_COMMANDS; i++)
    if (strcmp(name, xf_cli_commands[i]->name) == 0) return xf_cli_commands[i];
  return NULL;
}

int xf_cli_unknown_command(const char *asked, const char *name)
{
  const char *names[N_COMMANDS + 3] = {"--help", "--version"};
  for (size_t i = 0; i < N_COMMANDS; i++) names[i + 2] = xf_cli_commands[i]->name;
  const char *what = name[0] == '-' ? "option" : "command", *close = xf_cli_closest(name, names);
  if (close) return xf_cli_misuse(asked, "unknown %s '%s'; did you mean %s?", what, name, close);
  return xf_cli_misuse(asked, "unknown %s '%s'", what, name);
}
