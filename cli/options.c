#include "cli/options.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/report.h"

enum { LONGEST_NAME = 32, MOST_OPTIONS = 64 };

/* Whether the first n characters of word spell the option's name. */
static bool spells(const char *word, size_t n, const char *name)
{
  if (!name || strlen(name) != n) return false;
  for (size_t i = 0; i < n; i++) {
    char given = word[i] == '_' ? '-' : word[i], wanted = name[i] == '_' ? '-' : name[i];
    if (given != wanted) return false;
  }
  return true;
}

static const struct xf_cli_option *find(const struct xf_cli_command *command, const char *word,
                                        size_t n)
{
  for (size_t t = 0; t < XF_CLI_TABLES && command->tables[t]; t++)
    for (const struct xf_cli_option *o = command->tables[t]; o->name; o++)
      if (spells(word, n, o->name) || spells(word, n, o->alias)) return o;
  return NULL;
}

/* Levenshtein's distance, of words up to LONGEST_NAME. */
static size_t distance(const char *a, const char *b)
{
  size_t row[LONGEST_NAME + 1], n = strlen(b);
  for (size_t j = 0; j <= n; j++) row[j] = j;
  for (size_t i = 0; a[i]; i++) {
    size_t diagonal = row[0];
    row[0] = i + 1;
    for (size_t j = 0; j < n; j++) {
      size_t swap = diagonal + (a[i] != b[j]);
      diagonal = row[j + 1];
      size_t gap = (row[j] < row[j + 1] ? row[j] : row[j + 1]) + 1;
      row[j + 1] = gap < swap ? gap : swap;
    }
  }
  return row[n];
}

const char *xf_cli_closest(const char *word, const char *const *names)
{
  const char *best = NULL;
  size_t least = strlen(word) / 3;
  if (strlen(word) > LONGEST_NAME) return NULL;
  for (; *names; names++) {
    size_t d = distance(word, *names);
    if (d <= least && (!best || d < least)) {
      best = *names;
      least = d;
    }
  }
  return best;
}

static int unknown(const struct xf_cli_command *command, const char *word)
{
  const char *names[MOST_OPTIONS + 1] = {"--help"}, *close = NULL;
  size_t n = 1;
  for (size_t t = 0; t < XF_CLI_TABLES && command->tables[t]; t++)
    for (const struct xf_cli_option *o = command->tables[t]; o->name; o++) {
      if (n < MOST_OPTIONS) names[n++] = o->name;
      if (o->alias && n < MOST_OPTIONS) names[n++] = o->alias;
    }
  if (word[0] != '-' || word[1] == '\0')
    return xf_cli_misuse(command->name, "unexpected argument '%s'", word);
  close = xf_cli_closest(word, names);
  if (close)
    return xf_cli_misuse(command->name, "unknown option %s; did you mean %s?", word, close);
  return xf_cli_misuse(command->name, "unknown option %s", word);
}

int xf_cli_parse_count(const char *word, uint64_t *value)
{
  char *end;
  if (!isdigit((unsigned char)word[0])) return 0;
  errno = 0;
  unsigned long long parsed = strtoull(word, &end, 10);
  if (*end || errno) return 0;
  *value = parsed;
  return 1;
}

static bool parse_real(const char *word, float *value)
{
  char *end;
  double parsed = strtod(word, &end);
  if (end == word || *end || !isfinite(parsed)) return false;
  *value = (float)parsed;
  return true;
}

static int choose(const struct xf_cli_option *o, const char *word)
{
  const char *words = o->argument;
  for (int index = 0;; index++) {
    size_t n = strcspn(words, "|");
    if (strlen(word) == n && strncmp(word, words, n) == 0) return index;
    if (!words[n]) return -1;
    words += n + 1;
  }
}

static int bad_value(const struct xf_cli_command *command, const struct xf_cli_option *o,
                     const char *word)
{
  const char *what = o->kind == XF_CLI_COUNT ? "a whole number" : "a number";
  if (o->kind == XF_CLI_CHOICE)
    return xf_cli_misuse(command->name, "%s takes %s, not '%s'", o->name, o->argument, word);
  if (o->max > 0)
    return xf_cli_misuse(command->name, "%s takes %s from %.10g to %.10g, not '%s'", o->name, what,
                         o->min, o->max, word);
  return xf_cli_misuse(command->name, "%s takes %s below 2^64, not '%s'", o->name, what, word);
}

static int set(const struct xf_cli_command *command, const struct xf_cli_option *o,
               const char *word)
{
  bool good = true;
  if (o->kind == XF_CLI_TEXT) {
    *(const char **)o->value = word;
  } else if (o->kind == XF_CLI_TEXTS) {
    struct xf_cli_list *list = o->value;
    if (list->n == XF_CLI_LIST)
      return xf_cli_misuse(command->name, "%s may be given %d times", o->name, XF_CLI_LIST);
    list->texts[list->n++] = word;
  } else if (o->kind == XF_CLI_COUNT) {
    uint64_t value;
    good = xf_cli_parse_count(word, &value) &&
           (o->max <= 0 || ((double)value >= o->min && (double)value <= o->max));
    if (good) *(uint64_t *)o->value = value;
  } else if (o->kind == XF_CLI_REAL) {
    float value;
    good = parse_real(word, &value) && value >= (float)o->min && value <= (float)o->max;
    if (good) *(float *)o->value = value;
  } else {
    int index = choose(o, word);
    good = index >= 0;
    if (good) *(int *)o->value = index;
  }
  return good ? XF_CLI_OK : bad_value(command, o, word);
}

static int parse(const struct xf_cli_command *command, int argc, char **argv)
{
  const struct xf_cli_option *operand = command->operand; /* NULL: there is none, or it was given */
  for (int i = 0; i < argc; i++) {
    const char *word = argv[i];
    if (operand && word[0] != '-') {
      int code = set(command, operand, word);
      if (code) return code;
      operand = NULL;
      continue;
    }
    /* --name=value, of a long name only: text may hold anything. */
    size_t n = word[0] == '-' && word[1] == '-' ? strcspn(word, "=") : strlen(word);
    const struct xf_cli_option *o = find(command, word, n);
    if (!o) return unknown(command, word);
    if (o->kind == XF_CLI_SWITCH) {
      if (word[n]) return xf_cli_misuse(command->name, "%s takes no value", o->name);
      *(int *)o->value = 1;
      continue;
    }
    if (!word[n] && i + 1 == argc)
      return xf_cli_misuse(command->name, "%s needs a value: %s", o->name, o->argument);
    int code = set(command, o, word[n] ? word + n + 1 : argv[++i]);
    if (code) return code;
  }
  return XF_CLI_OK;
}

void xf_cli_option_label(const struct xf_cli_option *o, char *text, size_t size)
{
  snprintf(text, size, "%s%s%s%s%s", o->name, o->alias ? ", " : "", o->alias ? o->alias : "",
           o->argument ? " " : "", o->argument ? o->argument : "");
}

void xf_cli_option_default(const struct xf_cli_option *o, char *text, size_t size)
{
  text[0] = '\0';
  if (o->kind == XF_CLI_COUNT && *(uint64_t *)o->value)
    snprintf(text, size, " (default %llu)", (unsigned long long)*(uint64_t *)o->value);
  if (o->kind == XF_CLI_REAL) snprintf(text, size, " (default %g)", *(float *)o->value);
}

static void print_option(const struct xf_cli_option *o)
{
  char label[128], shown[32];
  xf_cli_option_label(o, label, sizeof label);
  xf_cli_option_default(o, shown, sizeof shown);
  printf("  %-32s  %s%s\n", label, o->help, shown);
}

static int print_help(const struct xf_cli_command *command)
{
  const char *operand = command->operand ? command->operand->argument : "";
  printf("usage: exactflash %s %s%s[options]\n\n%s\n\noptions:\n", command->name, operand,
         *operand ? " " : "", command->description);
  for (size_t t = 0; t < XF_CLI_TABLES && command->tables[t]; t++)
    for (const struct xf_cli_option *o = command->tables[t]; o->name; o++) print_option(o);
  printf("  %-32s  %s\n\nexamples:\n%s", "--help, -h", "print this", command->examples);
  return xf_cli_flush();
}

/* --help, unless it is the value of another option. */
static bool asks_for_help(const struct xf_cli_command *command, int argc, char **argv)
{
  for (int i = 0; i < argc; i++) {
    if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) return true;
    const struct xf_cli_option *o = find(command, argv[i], strlen(argv[i]));
    if (o && o->kind != XF_CLI_SWITCH) i++;
  }
  return false;
}

int xf_cli_run(const struct xf_cli_command *command, int argc, char **argv)
{
  /* Before anything is parsed, while the values are still the defaults. */
  if (asks_for_help(command, argc, argv)) return print_help(command);
  int code = parse(command, argc, argv);
  return code ? code : command->run();
}
