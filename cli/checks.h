/* Checks that pass or fail, one line each, and the comparison of logits that many of them are. */
#ifndef XF_CLI_CHECKS_H
#define XF_CLI_CHECKS_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>

struct xf_cli_checks {
  bool json;     /* one object at the end, instead of lines at once */
  bool complete; /* false: out of memory */
  cJSON *object; /* of the end: what was told beside the checks */
  cJSON *list;
  size_t failed;
};

void xf_cli_checks_begin(struct xf_cli_checks *checks, bool json);
/* "PASS  name" or "FAIL  name: why". */
void xf_cli_check(struct xf_cli_checks *checks, bool passed, const char *name, const char *why);
/* Something to know that is no check: "key: text", with JSON a member of the object. */
void xf_cli_checks_tell(struct xf_cli_checks *checks, const char *key, const char *text);
/* Prints the verdict, unless `code` is that of a failure that was reported already. Returns an exit
 * code, XF_CLI_FAILED where a check failed. */
int xf_cli_checks_end(struct xf_cli_checks *checks, int code);

/* How far values are from those that they are measured by. */
struct xf_cli_difference {
  double largest, sum, squares; /* of the differences; NaN counts as the largest */
  double reference_squares;     /* of the values measured by */
  size_t n, unequal;            /* values, and those whose bits differ */
  size_t first;                 /* the first of them, where there is one */
};

/* Adds n values. */
void xf_cli_difference_add(struct xf_cli_difference *difference, const float *values,
                           const float *reference, size_t n);

/* The largest difference is below the bound, in units of the reference's root mean square where
 * that is above 1: roundings grow with the logits. */
void xf_cli_check_largest(struct xf_cli_checks *checks, const char *name,
                          const struct xf_cli_difference *difference, double bound);
/* √(Σ difference² / Σ reference²) is below the bound. */
void xf_cli_check_relative(struct xf_cli_checks *checks, const char *name,
                           const struct xf_cli_difference *difference, double bound);
/* No bit differs. row: values of one position, for the message. */
void xf_cli_check_bits(struct xf_cli_checks *checks, const char *name,
                       const struct xf_cli_difference *difference, size_t row);

#endif
