#include "cli/checks.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cli/json.h"
#include "cli/report.h"

void xf_cli_checks_begin(struct xf_cli_checks *checks, bool json)
{
  *checks = (struct xf_cli_checks){.json = json, .complete = true};
  if (!json) return;
  checks->object = cJSON_CreateObject();
  checks->list = cJSON_CreateArray();
  checks->complete = checks->object && checks->list;
}

/* The beginning of its line or, with JSON, its object. */
static cJSON *begin(struct xf_cli_checks *checks, bool passed, const char *name)
{
  checks->failed += !passed;
  if (!checks->json) {
    printf("%s  %s", passed ? "PASS" : "FAIL", name);
    return NULL;
  }
  cJSON *o = cJSON_CreateObject();
  checks->complete = checks->complete && cJSON_AddItemToArray(checks->list, o) &&
                     xf_cli_json_word(o, "check", name) &&
                     cJSON_AddBoolToObject(o, "passed", passed);
  return o;
}

static void add_number(struct xf_cli_checks *checks, cJSON *check, const char *key, double value)
{
  checks->complete = checks->complete && xf_cli_json_number(check, key, value);
}

static void add_word(struct xf_cli_checks *checks, cJSON *object, const char *key, const char *word)
{
  checks->complete = checks->complete && xf_cli_json_word(object, key, word);
}

void xf_cli_check(struct xf_cli_checks *checks, bool passed, const char *name, const char *why)
{
  cJSON *o = begin(checks, passed, name);
  if (!checks->json)
    printf("%s%s\n", passed ? "" : ": ", passed ? "" : why);
  else if (!passed)
    add_word(checks, o, "why", why);
}

void xf_cli_checks_tell(struct xf_cli_checks *checks, const char *key, const char *text)
{
  if (checks->json)
    add_word(checks, checks->object, key, text);
  else
    printf("%s: %s\n", key, text);
}

int xf_cli_checks_end(struct xf_cli_checks *checks, int code)
{
  bool passed = checks->failed == 0;
  cJSON *o = checks->object, *list = checks->list;
  if (code) {
    cJSON_Delete(o);
    cJSON_Delete(list);
    return code;
  }
  if (checks->json) {
    bool complete = checks->complete && cJSON_AddBoolToObject(o, "passed", passed) &&
                    cJSON_AddItemToObject(o, "checks", list);
    if (!complete) cJSON_Delete(list);
    code = xf_cli_json_print(o, complete);
  } else {
    printf("%s\n", passed ? "PASS" : "FAIL");
    code = xf_cli_flush();
  }
  return code ? code : passed ? XF_CLI_OK : XF_CLI_FAILED;
}

/* ---- differences ---- */

void xf_cli_difference_add(struct xf_cli_difference *d, const float *values, const float *reference,
                           size_t n)
{
  for (size_t i = 0; i < n; i++) {
    double difference = fabs((double)values[i] - (double)reference[i]);
    if (!(difference <= d->largest)) d->largest = difference; /* NaN too */
    d->sum += difference;
    d->squares += difference * difference;
    d->reference_squares += (double)reference[i] * (double)reference[i];
    if (memcmp(&values[i], &reference[i], sizeof *values) != 0 && d->unequal++ == 0)
      d->first = d->n + i;
  }
  d->n += n;
}

static double root_mean_square(const struct xf_cli_difference *d)
{
  return sqrt(d->reference_squares / (double)d->n);
}

void xf_cli_check_largest(struct xf_cli_checks *checks, const char *name,
                          const struct xf_cli_difference *d, double bound)
{
  double mean = d->sum / (double)d->n;
  bound *= fmax(1, root_mean_square(d));
  cJSON *o = begin(checks, d->largest < bound, name);
  if (!checks->json) {
    printf(": max %.3g, mean %.3g; bound %.3g\n", d->largest, mean, bound);
    return;
  }
  add_number(checks, o, "max_difference", d->largest);
  add_number(checks, o, "mean_difference", mean);
  add_number(checks, o, "bound", bound);
}

void xf_cli_check_relative(struct xf_cli_checks *checks, const char *name,
                           const struct xf_cli_difference *d, double bound)
{
  double relative = d->squares == 0 ? 0 : sqrt(d->squares / d->reference_squares);
  cJSON *o = begin(checks, relative < bound, name);
  if (!checks->json) {
    printf(": rms difference %.3g of the logits' rms, max %.3g; bound %.3g\n", relative, d->largest,
           bound);
    return;
  }
  add_number(checks, o, "relative_rms_difference", relative);
  add_number(checks, o, "max_difference", d->largest);
  add_number(checks, o, "bound", bound);
}

void xf_cli_check_bits(struct xf_cli_checks *checks, const char *name,
                       const struct xf_cli_difference *d, size_t row)
{
  char why[160];
  snprintf(why, sizeof why,
           "%zu of %zu values differ, first at position %zu, logit %zu; max difference %.3g",
           d->unequal, d->n, d->first / row, d->first % row, d->largest);
  xf_cli_check(checks, d->unequal == 0, name, why);
}
