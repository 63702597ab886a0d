/* exactflash completion: scripts for shells, made of the tables of options. */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/report.h"

enum shell { BASH, ZSH };

static int shell = -1;

static const struct xf_cli_option options[] = {{0}};
static const struct xf_cli_option operand = {"the shell",   NULL,   "bash|zsh", NULL,
                                             XF_CLI_CHOICE, &shell, 0,          0};

static bool names_a_file(const struct xf_cli_option *o)
{
  static const char *const names[] = {"FILE", "FOLDER", "PATH"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    if (strcmp(o->argument, names[i]) == 0) return true;
  return false;
}

static void print_words(const char *choices)
{
  for (const char *c = choices; *c; c++) putchar(*c == '|' ? ' ' : *c);
}

static void print_commands(void)
{
  for (const struct xf_cli_command *const *c = xf_cli_commands; *c; c++) printf("%s ", (*c)->name);
}

/* Calls visit for every option of the command. */
static void for_each_option(const struct xf_cli_command *command,
                            void (*visit)(const struct xf_cli_command *,
                                          const struct xf_cli_option *))
{
  for (size_t t = 0; t < XF_CLI_TABLES && command->tables[t]; t++)
    for (const struct xf_cli_option *o = command->tables[t]; o->name; o++) visit(command, o);
}

/* ---- bash ---- */

/* What may follow the option. */
static void bash_value(const struct xf_cli_command *command, const struct xf_cli_option *o)
{
  if (o->kind == XF_CLI_SWITCH) return;
  printf("    %s:%s", command->name, o->name);
  if (o->alias) printf(" | %s:%s", command->name, o->alias);
  if (o->kind == XF_CLI_CHOICE) {
    fputs(") words='", stdout);
    print_words(o->argument);
    puts("' ;;");
  } else {
    puts(names_a_file(o) ? ") files=1 ;;" : ") return ;;");
  }
}

static void bash_name(const struct xf_cli_command *command, const struct xf_cli_option *o)
{
  (void)command;
  printf("%s ", o->name);
  if (o->alias) printf("%s ", o->alias);
}

static void print_operand_words(const struct xf_cli_command *command)
{
  if (!command->operand) return;
  if (command->operand->kind == XF_CLI_CHOICE)
    print_words(command->operand->argument);
  else
    print_commands();
  putchar(' ');
}

static void print_bash(void)
{
  puts("# Completion of exactflash for bash, made by `exactflash completion bash`.\n"
       "_exactflash()\n"
       "{\n"
       "  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} words= files=\n"
       "  if [[ $word == = ]]; then # --name=\n"
       "    word=\n"
       "  elif [[ $before == = ]]; then\n"
       "    before=${COMP_WORDS[COMP_CWORD - 2]}\n"
       "  fi\n"
       "  COMPREPLY=()\n"
       "  ((COMP_CWORD > 1)) || before=COMMAND\n"
       "  case ${COMP_WORDS[1]}:$before in");
  fputs("    *:COMMAND) words='", stdout);
  print_commands();
  puts("--help --version' ;;");
  for (const struct xf_cli_command *const *c = xf_cli_commands; *c; c++) {
    for_each_option(*c, bash_value);
    printf("    %s:*) words='", (*c)->name);
    print_operand_words(*c);
    for_each_option(*c, bash_name);
    puts("--help' ;;");
  }
  puts("  esac\n"
       "  if [[ $files ]]; then\n"
       "    compopt -o filenames 2>/dev/null\n"
       "    mapfile -t COMPREPLY < <(compgen -f -- \"$word\")\n"
       "  else\n"
       "    mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$word\")\n"
       "  fi\n"
       "}\n"
       "complete -F _exactflash exactflash");
}

/* ---- zsh ---- */

/* Text inside of '…[…]' of _arguments, or, for _describe, in front of a colon. */
static void zsh_text(const char *text)
{
  for (; *text; text++) {
    if (*text == '\'')
      fputs("'\\'", stdout);
    else if (strchr("[]:\\", *text))
      putchar('\\');
    putchar(*text);
  }
}

static void zsh_action(const struct xf_cli_option *o)
{
  if (o->kind == XF_CLI_CHOICE) {
    putchar('(');
    print_words(o->argument);
    putchar(')');
  } else if (names_a_file(o)) {
    fputs("_files", stdout);
  } else {
    putchar(' ');
  }
}

static void zsh_option(const struct xf_cli_command *command, const struct xf_cli_option *o)
{
  (void)command;
  fputs(" \\\n        ", stdout);
  if (o->alias)
    printf("'(%s %s)'{%s,%s}'[", o->name, o->alias, o->name, o->alias);
  else
    printf("'%s[", o->name);
  zsh_text(o->help);
  putchar(']');
  if (o->argument) {
    putchar(':');
    zsh_text(o->argument);
    putchar(':');
    zsh_action(o);
  }
  putchar('\'');
}

static void print_zsh(void)
{
  puts("#compdef exactflash\n"
       "# Completion of exactflash for zsh, made by `exactflash completion zsh`.\n"
       "_exactflash()\n"
       "{\n"
       "  local -a commands\n"
       "  commands=(");
  for (const struct xf_cli_command *const *c = xf_cli_commands; *c; c++) {
    printf("    '%s:", (*c)->name);
    zsh_text((*c)->summary);
    puts("'");
  }
  puts("  )\n"
       "  if ((CURRENT == 2)); then\n"
       "    _describe command commands\n"
       "    return\n"
       "  fi\n"
       "  local command=$words[2]\n"
       "  shift words\n"
       "  ((CURRENT--))\n"
       "  case $command in");
  for (const struct xf_cli_command *const *c = xf_cli_commands; *c; c++) {
    printf("    %s)\n      _arguments", (*c)->name);
    for_each_option(*c, zsh_option);
    if ((*c)->operand) {
      fputs(" \\\n        '1::word:(", stdout);
      print_operand_words(*c);
      fputs(")'", stdout);
    }
    puts(" \\\n        '(- *)'{--help,-h}'[print the help]'\n      ;;");
  }
  puts("  esac\n"
       "}\n"
       "if [[ $funcstack[1] == _exactflash ]]; then\n"
       "  _exactflash \"$@\"\n"
       "else\n"
       "  compdef _exactflash exactflash\n"
       "fi");
}

static int run(void)
{
  if (shell < 0) return xf_cli_misuse("completion", "name the shell: bash or zsh");
  if (shell == BASH)
    print_bash();
  else
    print_zsh();
  return xf_cli_flush();
}

const struct xf_cli_command xf_cli_completion = {
    .name = "completion",
    .summary = "print a script that completes command lines",
    .description = "Prints what bash or zsh needs to complete the commands and options.",
    .examples = "  exactflash completion bash >/etc/bash_completion.d/exactflash\n"
                "  exactflash completion zsh >/usr/local/share/zsh/site-functions/_exactflash\n"
                "  source <(exactflash completion bash)\n",
    .tables = {options},
    .operand = &operand,
    .run = run};
