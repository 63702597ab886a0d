/* exactflash: finds the command and runs it. */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/report.h"
#include "cli/trace.h"

static void print_usage(FILE *stream)
{
  fputs("usage: exactflash COMMAND [options]\n\ncommands:\n", stream);
  for (const struct xf_cli_command *const *c = xf_cli_commands; *c; c++)
    fprintf(stream, "  %-10s %s\n", (*c)->name, (*c)->summary);
  fputs("\noptions:\n"
        "  --help     print this; exactflash COMMAND --help explains a command\n"
        "  --version  print the version\n",
        stream);
  fprintf(stream, "\nexamples:\n%s\nexit status: %s\n", xf_cli_examples, xf_cli_exit_status);
}

static int print_version(void)
{
  uint32_t version = xf_version();
  printf("exactflash %u.%u.%u, numerics %u\n", (unsigned)(version >> 16),
         (unsigned)(version >> 8 & 255), (unsigned)(version & 255),
         (unsigned)xf_numerics_version());
  return xf_cli_flush();
}

int main(int argc, char **argv)
{
  signal(SIGXFSZ, SIG_IGN); /* a file that grows too large is an error of the write, not a death */
  if (argc < 2) {
    print_usage(stderr);
    return XF_CLI_USAGE;
  }
  if (strcmp(argv[1], "--version") == 0) return print_version();
  if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
    print_usage(stdout);
    return xf_cli_flush();
  }
  const struct xf_cli_command *command = xf_cli_find_command(argv[1]);
  if (!command) return xf_cli_unknown_command(NULL, argv[1]);
  return xf_cli_trace_end(xf_cli_run(command, argc - 2, argv + 2));
}
