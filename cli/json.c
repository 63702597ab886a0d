#include "cli/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/report.h"

bool xf_cli_json_number(cJSON *object, const char *key, double value)
{
  return cJSON_AddNumberToObject(object, key, value) != NULL;
}

bool xf_cli_json_float(cJSON *object, const char *key, float value)
{
  char text[32];
  for (int digits = 6; digits <= 9; digits++) {
    snprintf(text, sizeof text, "%.*g", digits, (double)value);
    if (strtof(text, NULL) == value) break;
  }
  return xf_cli_json_number(object, key, strtod(text, NULL));
}

bool xf_cli_json_word(cJSON *object, const char *key, const char *word)
{
  return xf_cli_json_text(object, key, word, strlen(word));
}

bool xf_cli_json_ids(cJSON *object, const char *key, const int32_t *ids, size_t n)
{
  cJSON *array = cJSON_AddArrayToObject(object, key);
  bool complete = array != NULL;
  for (size_t i = 0; complete && i < n; i++)
    complete = cJSON_AddItemToArray(array, cJSON_CreateNumber(ids[i]));
  return complete;
}

/* cJSON's own strings end at the first NUL. */
bool xf_cli_json_text(cJSON *object, const char *key, const char *utf8, size_t bytes)
{
  char *quoted = malloc(6 * bytes + 3), *to = quoted;
  if (!quoted) return false;
  *to++ = '"';
  for (size_t i = 0; i < bytes; i++) {
    unsigned char c = (unsigned char)utf8[i];
    if (c == '"' || c == '\\') *to++ = '\\';
    if (c >= ' ')
      *to++ = (char)c;
    else
      to += sprintf(to, c == '\n' ? "\\n" : "\\u%04x", c);
  }
  *to++ = '"';
  *to = '\0';
  bool complete = cJSON_AddRawToObject(object, key, quoted) != NULL;
  free(quoted);
  return complete;
}

int xf_cli_json_print(cJSON *object, bool complete)
{
  char *text = complete ? cJSON_PrintUnformatted(object) : NULL;
  cJSON_Delete(object);
  if (!text) return xf_cli_fail("out of memory for the JSON output");
  puts(text);
  cJSON_free(text);
  return xf_cli_flush();
}
