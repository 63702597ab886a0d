/* exactflash man: manual pages, made of the tables that --help is made of. */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/file.h"
#include "cli/report.h"
#include "exactflash/exactflash.h"

static const char *topic, *folder;

static const struct xf_cli_option options[] = {{"-o", "--output", "FOLDER",
                                                "write all pages into this folder, each a file",
                                                XF_CLI_TEXT, &folder, 0, 0},
                                               {0}};
static const struct xf_cli_option operand = {"the command", NULL,   "[COMMAND]", NULL,
                                             XF_CLI_TEXT,   &topic, 0,           0};

/* ---- roff ---- */

/* Decodes the UTF-8 character at text (which is UTF-8) and returns its bytes. */
static size_t decode(const char *text, uint32_t *code)
{
  unsigned char lead = (unsigned char)text[0];
  size_t n = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  *code = lead & (0x7Fu >> n);
  for (size_t i = 1; i < n; i++) *code = *code << 6 | ((unsigned char)text[i] & 0x3F);
  return n;
}

/* Text that means itself, in ASCII; a line may end behind the | of choices. */
static void put(FILE *out, const char *text)
{
  static const char special[] = "\\-'`^~|", *const names[] = {"\\e",   "\\-",   "\\(aq", "\\(ga",
                                                              "\\(ha", "\\(ti", "|\\:"};
  bool line_start = true;
  while (*text) {
    const char *found = strchr(special, *text);
    if (line_start && (*text == '.' || *text == '\'')) fputs("\\&", out);
    line_start = *text == '\n';
    if ((unsigned char)*text >= 0x80) {
      uint32_t code;
      text += decode(text, &code);
      fprintf(out, "\\[u%04X]", (unsigned)code);
      continue;
    }
    if (found)
      fputs(names[found - special], out);
    else
      putc(*text, out);
    text++;
  }
}

static void put_styled(FILE *out, char style, const char *text)
{
  fprintf(out, "\\f%c", style);
  put(out, text);
  fputs("\\fR", out);
}

static void put_title(FILE *out, const char *name, const char *summary)
{
  uint32_t version = xf_version();
  fprintf(out, ".TH \"");
  put(out, name);
  fprintf(out, "\" 1 \"\" \"exactflash %u.%u.%u\" \"User Commands\"\n.SH NAME\n",
          (unsigned)(version >> 16), (unsigned)(version >> 8 & 255), (unsigned)(version & 255));
  put(out, name);
  fputs(" \\- ", out);
  put(out, summary);
  fputs("\n.SH SYNOPSIS\n", out);
}

/* Lines that stay as they are. */
static void put_examples(FILE *out, const char *examples)
{
  fputs(".SH EXAMPLES\n.EX\n", out);
  put(out, examples);
  fputs(".EE\n.SH EXIT STATUS\n", out);
  put(out, xf_cli_exit_status);
  fputs("\n.SH SEE ALSO\n", out);
}

static void put_option(FILE *out, const struct xf_cli_option *o)
{
  char shown[32];
  xf_cli_option_default(o, shown, sizeof shown);
  fputs(".TP\n", out);
  put_styled(out, 'B', o->name);
  if (o->alias) {
    fputs(", ", out);
    put_styled(out, 'B', o->alias);
  }
  if (o->argument) {
    fputs(" ", out);
    put_styled(out, 'I', o->argument);
  }
  putc('\n', out);
  put(out, o->help);
  put(out, shown);
  putc('\n', out);
}

/* ---- pages ---- */

static void put_command_page(FILE *out, const struct xf_cli_command *command)
{
  char name[64];
  snprintf(name, sizeof name, "exactflash-%s", command->name);
  put_title(out, name, command->summary);
  put_styled(out, 'B', "exactflash ");
  put_styled(out, 'B', command->name);
  if (command->operand) {
    putc(' ', out);
    put_styled(out, 'I', command->operand->argument);
  }
  fputs(" [\\fIoptions\\fR]\n.SH DESCRIPTION\n", out);
  put(out, command->description);
  fputs("\n.SH OPTIONS\n", out);
  for (size_t t = 0; t < XF_CLI_TABLES && command->tables[t]; t++)
    for (const struct xf_cli_option *o = command->tables[t]; o->name; o++) put_option(out, o);
  fputs(".TP\n\\fB\\-\\-help\\fR, \\fB\\-h\\fR\nprint the help\n", out);
  put_examples(out, command->examples);
  fputs(".BR exactflash (1)\n", out);
}

static void put_main_page(FILE *out)
{
  put_title(out, "exactflash", "Llama inference on CPUs with the same bits everywhere");
  fputs("\\fBexactflash\\fR \\fICOMMAND\\fR [\\fIoptions\\fR]\n.SH COMMANDS\n", out);
  for (const struct xf_cli_command *const *c = xf_cli_commands; *c; c++) {
    fprintf(out, ".TP\n\\fB%s\\fR\n", (*c)->name);
    put(out, (*c)->summary);
    putc('\n', out);
  }
  fputs(".SH OPTIONS\n"
        ".TP\n\\fB\\-\\-help\\fR, \\fB\\-h\\fR\nprint the help\n"
        ".TP\n\\fB\\-\\-version\\fR\nprint the version\n"
        ".SH ENVIRONMENT\n"
        ".TP\n\\fBXF_ISA\\fR\nthe instruction set to use, where \\fB\\-\\-isa\\fR names none\n"
        ".TP\n\\fBXF_DEMO_MODEL\\fR\nthe model to use, where \\fB\\-m\\fR names none\n",
        out);
  put_examples(out, xf_cli_examples);
  for (const struct xf_cli_command *const *c = xf_cli_commands; *c; c++)
    fprintf(out, ".BR exactflash\\-%s (1)%s\n", (*c)->name, c[1] ? "," : "");
}

/* command NULL: the program's page. */
static int write_page(const struct xf_cli_command *command)
{
  char path[4096];
  int n = snprintf(path, sizeof path, "%s/exactflash%s%s.1", folder, command ? "-" : "",
                   command ? command->name : "");
  if (n >= (int)sizeof path) return xf_cli_fail("%s: the path is too long", folder);
  struct xf_cli_output output;
  int code = xf_cli_output_open(&output, path);
  if (!code) {
    if (command)
      put_command_page(output.stream, command);
    else
      put_main_page(output.stream);
    code = xf_cli_output_commit(&output);
  }
  xf_cli_output_discard(&output);
  return code;
}

static int write_pages(void)
{
  int code = write_page(NULL);
  for (const struct xf_cli_command *const *c = xf_cli_commands; !code && *c; c++)
    code = write_page(*c);
  return code;
}

static int run(void)
{
  if (topic && folder) return xf_cli_misuse("man", "-o writes all pages; leave out '%s'", topic);
  if (folder) return write_pages();
  const struct xf_cli_command *command = topic ? xf_cli_find_command(topic) : NULL;
  if (topic && !command) return xf_cli_unknown_command("man", topic);
  if (command)
    put_command_page(stdout, command);
  else
    put_main_page(stdout);
  return xf_cli_flush();
}

const struct xf_cli_command xf_cli_man = {
    .name = "man",
    .summary = "print a manual page",
    .description = "Prints the manual page of the program, or of one of its commands, as roff.",
    .examples = "  exactflash man | man -l -\n"
                "  exactflash man generate | man -l -\n"
                "  exactflash man -o /usr/local/share/man/man1\n",
    .tables = {options},
    .operand = &operand,
    .run = run};
