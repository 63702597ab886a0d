/* JSON files through cJSON, with errors that name file and field. */
#ifndef XF_MODEL_JSON_H
#define XF_MODEL_JSON_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <string.h>

#include "exactflash/status.h"

/* Parses a whole file that must hold one object. Free with cJSON_Delete. */
xf_status xf_json_read(const char *path, cJSON **out, xf_error *error);
/* The same for bytes of a file in memory; path is for messages. */
xf_status xf_json_parse(const char *path, const char *text, size_t bytes, cJSON **out,
                        xf_error *error);
/* Whether the item is a number that is an integer in [low, high]; *out is then that. high ≤ 2^53,
 * below which a double has every integer. NULL is no number. */
bool xf_json_integer(const cJSON *item, size_t low, size_t high, size_t *out);

/* The value of a key; NULL where there is none. */
static inline const cJSON *xf_json_get(const cJSON *object, const char *key)
{
  return cJSON_GetObjectItemCaseSensitive(object, key);
}

static inline bool xf_json_is_text(const cJSON *item, const char *text)
{
  const char *value = cJSON_GetStringValue(item);
  return value && strcmp(value, text) == 0;
}

#endif
