/* JSON on stdout, through cJSON. */
#ifndef XF_CLI_JSON_H
#define XF_CLI_JSON_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Each adds a member and returns false when out of memory; a value that is NaN becomes null. */
bool xf_cli_json_number(cJSON *object, const char *key, double value);
/* As its shortest decimal: 1e-05, not 9.99999975e-06. */
bool xf_cli_json_float(cJSON *object, const char *key, float value);
bool xf_cli_json_word(cJSON *object, const char *key, const char *word);
bool xf_cli_json_ids(cJSON *object, const char *key, const int32_t *ids, size_t n);
/* Text of known length, which may hold NUL characters. */
bool xf_cli_json_text(cJSON *object, const char *key, const char *utf8, size_t bytes);

/* Prints one line, if complete, and frees the object (NULL counts as incomplete: out of memory).
 * Returns an exit code. */
int xf_cli_json_print(cJSON *object, bool complete);

#endif
