/* Command lines. A command is a set of tables of options; parsing, checking and --help all read the
 * tables, so that they cannot disagree. */
#ifndef XF_CLI_OPTIONS_H
#define XF_CLI_OPTIONS_H

#include <stdint.h>

enum xf_cli_kind {
  XF_CLI_SWITCH, /* int: 1 when given */
  XF_CLI_TEXT,   /* const char *: borrowed from argv */
  XF_CLI_COUNT,  /* uint64_t in [min, max] */
  XF_CLI_REAL,   /* float in [min, max] */
  XF_CLI_CHOICE  /* int: index of the word in `argument`, words parted by | */
};

/* A table ends with a row without a name. In long names - and _ are the same. */
struct xf_cli_option {
  const char *name, *alias; /* "--temp"; another spelling, or NULL */
  const char *argument;     /* what help calls its value; NULL for a switch */
  const char *help;
  enum xf_cli_kind kind;
  void *value;     /* of the kind's type; holds the default before parsing */
  double min, max; /* of a count (max 0: none) or a real */
};

enum { XF_CLI_TABLES = 5 };

struct xf_cli_command {
  const char *name, *summary, *description, *examples;
  const struct xf_cli_option *tables[XF_CLI_TABLES]; /* up to the first NULL */
  int (*run)(void);                                  /* returns the exit code */
};

/* Parses the arguments behind the command's name and runs it, or prints its help. */
int xf_cli_run(const struct xf_cli_command *command, int argc, char **argv);

/* Of names (NULL at the end) the one that the user may have meant, else NULL. */
const char *xf_cli_closest(const char *word, const char *const *names);

/* Reads a whole decimal number: the whole word, no sign, no overflow. 0 on failure. */
int xf_cli_parse_count(const char *word, uint64_t *value);

#endif
