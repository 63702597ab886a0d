/* exactflash: finds the command and runs it. */
#include <stdio.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/report.h"

static const struct xf_cli_command *const commands[] = {&xf_cli_generate, &xf_cli_logits,
                                                        &xf_cli_tokenize, &xf_cli_info};
enum { N_COMMANDS = sizeof commands / sizeof commands[0] };

static void print_usage(FILE *stream)
{
  fputs("usage: exactflash COMMAND [options]\n\ncommands:\n", stream);
  for (size_t i = 0; i < N_COMMANDS; i++)
    fprintf(stream, "  %-10s %s\n", commands[i]->name, commands[i]->summary);
  fputs("\noptions:\n"
        "  --help     print this; exactflash COMMAND --help explains a command\n"
        "  --version  print the version\n\n"
        "examples:\n"
        "  exactflash generate -p \"Once upon a time\"\n"
        "  exactflash generate --help\n\n"
        "exit status: 0 success, 1 failure, 2 wrong usage, 130 stopped by Ctrl-C\n",
        stream);
}

static int print_version(void)
{
  uint32_t version = xf_version();
  printf("exactflash %u.%u.%u, numerics %u\n", (unsigned)(version >> 16),
         (unsigned)(version >> 8 & 255), (unsigned)(version & 255),
         (unsigned)xf_numerics_version());
  return xf_cli_flush();
}

static int unknown_command(const char *word)
{
  const char *names[N_COMMANDS + 3] = {"--help", "--version"};
  for (size_t i = 0; i < N_COMMANDS; i++) names[i + 2] = commands[i]->name;
  const char *what = word[0] == '-' ? "option" : "command", *close = xf_cli_closest(word, names);
  if (close) return xf_cli_misuse(NULL, "unknown %s '%s'; did you mean %s?", what, word, close);
  return xf_cli_misuse(NULL, "unknown %s '%s'", what, word);
}

int main(int argc, char **argv)
{
  if (argc < 2) {
    print_usage(stderr);
    return XF_CLI_USAGE;
  }
  if (strcmp(argv[1], "--version") == 0) return print_version();
  if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
    print_usage(stdout);
    return xf_cli_flush();
  }
  for (size_t i = 0; i < N_COMMANDS; i++)
    if (strcmp(argv[1], commands[i]->name) == 0) return xf_cli_run(commands[i], argc - 2, argv + 2);
  return unknown_command(argv[1]);
}
