/* Command lines. A command is a set of tables of options; parsing, checking and --help all read the
 * tables, so that they cannot disagree. */
#ifndef XF_CLI_OPTIONS_H
#define XF_CLI_OPTIONS_H

#include <stddef.h>
#include <stdint.h>

enum xf_cli_kind {
  XF_CLI_SWITCH, /* int: 1 when given */
  XF_CLI_TEXT,   /* const char *: borrowed from argv */
  XF_CLI_TEXTS,  /* struct xf_cli_list: each use adds one */
  XF_CLI_COUNT,  /* uint64_t in [min, max] */
  XF_CLI_REAL,   /* float in [min, max] */
  XF_CLI_CHOICE  /* int: index of the word in `argument`, words parted by | */
};

enum { XF_CLI_LIST = 64 };

struct xf_cli_list {
  const char *texts[XF_CLI_LIST]; /* [n], borrowed from argv */
  size_t n;
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

enum { XF_CLI_TABLES = 6 };

struct xf_cli_command {
  const char *name, *summary, *description, *examples;
  const struct xf_cli_option *tables[XF_CLI_TABLES]; /* up to the first NULL */
  int (*run)(void);                                  /* returns the exit code */
  /* The one word that may stand without an option's name, or NULL: `name` is what messages call it,
   * `argument` what the usage line shows. */
  const struct xf_cli_option *operand;
};

/* Parses the arguments behind the command's name and runs it, or prints its help. */
int xf_cli_run(const struct xf_cli_command *command, int argc, char **argv);

/* "-n, --max-tokens N", and " (default 256)" or nothing. Before parsing, values are defaults. */
void xf_cli_option_label(const struct xf_cli_option *option, char *text, size_t size);
void xf_cli_option_default(const struct xf_cli_option *option, char *text, size_t size);

/* Of names (NULL at the end) the one that the user may have meant, else NULL. */
const char *xf_cli_closest(const char *word, const char *const *names);

/* Reads a whole decimal number: the whole word, no sign, no overflow. 0 on failure. */
int xf_cli_parse_count(const char *word, uint64_t *value);

#endif
