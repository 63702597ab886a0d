/* JSON files through cJSON, with errors that name file and field. */
#ifndef XF_MODEL_JSON_H
#define XF_MODEL_JSON_H

#include <cjson/cJSON.h>
#include <stdbool.h>

#include "exactflash/status.h"

/* Parses a whole file that must hold one object. Free with cJSON_Delete. */
xf_status xf_json_read(const char *path, cJSON **out, xf_error *error);
/* The same for bytes of a file in memory; path is for messages. */
xf_status xf_json_parse(const char *path, const char *text, size_t bytes, cJSON **out,
                        xf_error *error);

#endif
