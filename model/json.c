#include "model/json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "dispatch/error.h"
#include "dispatch/memory.h"
#include "dispatch/utf8.h"
#include "model/file.h"

/* cJSON needs some 80 bytes for each value, which may have two bytes of text: limits keep hostile
 * files affordable. The largest tokenizer.json of a published Llama has 17 MB and a million values.
 */
enum { MAX_BYTES = 64 << 20, MAX_VALUES = 4 << 20 };

/* At least as many as there are: strings may hold commas and brackets too. */
static size_t count_values(const char *text, size_t bytes)
{
  size_t n = 1;
  for (size_t i = 0; i < bytes; i++) n += text[i] == ',' || text[i] == '[' || text[i] == '{';
  return n;
}

static bool is_hex(char c)
{
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/* Bytes of the escape at text: a backslash and one character, or \uXXXX. 0 where it is malformed or
 * means U+0000, which would cut a string. */
static size_t escape_length(const char *text, size_t bytes)
{
  if (bytes < 2) return 0;
  if (text[1] != 'u') return 1 + (size_t)xf_utf8_character(text + 1, bytes - 1);
  if (bytes < 6 || memcmp(text + 2, "0000", 4) == 0) return 0;
  for (size_t i = 2; i < 6; i++)
    if (!is_hex(text[i])) return 0;
  return 6;
}

/* What cJSON lets pass: malformed UTF-8, control bytes and malformed escapes. NULL where the text
 * has none of them. */
static const char *find_fault(const char *text, size_t bytes)
{
  if (!xf_utf8_valid(text, bytes)) return "is not UTF-8";
  for (size_t i = 0; i < bytes;) {
    if ((unsigned char)text[i] < 0x20 && !memchr("\t\n\r", text[i], 3))
      return "holds a control byte";
    size_t length = text[i] == '\\' ? escape_length(text + i, bytes - i) : 1;
    if (length == 0) return "holds a malformed escape or U+0000";
    i += length;
  }
  return NULL;
}

static int compare_keys(const void *a, const void *b)
{
  return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Sets *key to a key that the object holds twice, else NULL. */
static xf_status find_duplicate(const cJSON *object, size_t keys, const char **key)
{
  const char **sorted = xf_alloc(keys, sizeof *sorted);
  if (!sorted) return XF_E_MEMORY;
  size_t n = 0;
  for (const cJSON *item = object->child; item; item = item->next) sorted[n++] = item->string;
  qsort(sorted, n, sizeof *sorted, compare_keys);
  for (size_t i = 1; i < n && !*key; i++)
    if (strcmp(sorted[i - 1], sorted[i]) == 0) *key = sorted[i];
  xf_free(sorted);
  return XF_OK;
}

/* Walks the whole tree, which cJSON keeps below a depth of CJSON_NESTING_LIMIT. */
static xf_status check_keys(const char *path, const cJSON *tree, xf_error *error)
{
  size_t children = 0;
  for (const cJSON *item = tree->child; item; item = item->next) {
    children++;
    xf_status status = item->child ? check_keys(path, item, error) : XF_OK;
    if (status != XF_OK) return status;
  }
  if (!cJSON_IsObject(tree) || children < 2) return XF_OK;
  const char *key = NULL;
  if (find_duplicate(tree, children, &key) != XF_OK) return xf_file_no_memory(error, path);
  if (key) return xf_fail(error, XF_E_FORMAT, "%s: holds the key \"%s\" twice", path, key);
  return XF_OK;
}

/* The text is copied: some releases of cJSON read a byte past a text that ends early. */
static cJSON *parse_copy(const char *text, size_t bytes, size_t *used, bool *out_of_memory)
{
  enum { PADDING = 16 };
  char *copy = xf_alloc(bytes + PADDING, 1);
  *out_of_memory = !copy;
  if (!copy) return NULL;
  memcpy(copy, text, bytes);
  memset(copy + bytes, 0, PADDING);
  const char *end = copy;
  cJSON *tree = cJSON_ParseWithLengthOpts(copy, bytes, &end, false);
  *used = (size_t)(end - copy);
  xf_free(copy);
  return tree;
}

xf_status xf_json_parse(const char *path, const char *text, size_t bytes, cJSON **out,
                        xf_error *error)
{
  *out = NULL;
  if (bytes == 0) return xf_fail(error, XF_E_FORMAT, "%s: holds no JSON object: it is empty", path);
  if (bytes > MAX_BYTES)
    return xf_fail(error, XF_E_UNSUPPORTED, "%s: %zu bytes of JSON, at most %d are supported", path,
                   bytes, MAX_BYTES);
  if (count_values(text, bytes) > MAX_VALUES)
    return xf_fail(error, XF_E_UNSUPPORTED, "%s: more than %d values of JSON are not supported",
                   path, MAX_VALUES);
  const char *fault = find_fault(text, bytes);
  if (fault) return xf_fail(error, XF_E_FORMAT, "%s: the JSON text %s", path, fault);
  size_t used = 0;
  bool out_of_memory;
  cJSON *tree = parse_copy(text, bytes, &used, &out_of_memory);
  if (out_of_memory) return xf_file_no_memory(error, path);
  if (!tree)
    return xf_fail(error, XF_E_FORMAT, "%s: malformed or truncated JSON near byte %zu", path, used);
  while (used < bytes && strchr(" \t\n\r", text[used])) used++;
  xf_status status = XF_OK;
  if (!cJSON_IsObject(tree))
    status = xf_fail(error, XF_E_FORMAT, "%s: must hold a JSON object {…}", path);
  else if (used < bytes)
    status = xf_fail(error, XF_E_FORMAT, "%s: more text behind the JSON object", path);
  else
    status = check_keys(path, tree, error);
  if (status == XF_OK)
    *out = tree;
  else
    cJSON_Delete(tree);
  return status;
}

xf_status xf_json_read(const char *path, cJSON **out, xf_error *error)
{
  *out = NULL;
  struct xf_file file;
  xf_status status = xf_file_map(path, &file, error);
  if (status != XF_OK) return status;
  status = xf_json_parse(path, (const char *)file.data, file.bytes, out, error);
  xf_file_unmap(&file);
  return status;
}

bool xf_json_integer(const cJSON *item, size_t low, size_t high, size_t *out)
{
  double value = cJSON_GetNumberValue(item); /* NaN: no number */
  if (!(value >= (double)low && value <= (double)high) || value != floor(value)) return false;
  *out = (size_t)value;
  return true;
}
