/* Look-ups in the metadata of a GGUF file. */
#include <stdlib.h>
#include <string.h>

#include "dispatch/error.h"
#include "dispatch/memory.h"
#include "model/gguf_format.h"

enum kind { UNSIGNED, SIGNED, FLOATING, BOOLEAN, TEXT, NESTED };

static const struct {
  enum kind kind;
  size_t bytes;
} types[XF_GGUF_TYPES] = {
    [XF_GGUF_U8] = {UNSIGNED, 1},  [XF_GGUF_I8] = {SIGNED, 1},    [XF_GGUF_U16] = {UNSIGNED, 2},
    [XF_GGUF_I16] = {SIGNED, 2},   [XF_GGUF_U32] = {UNSIGNED, 4}, [XF_GGUF_I32] = {SIGNED, 4},
    [XF_GGUF_F32] = {FLOATING, 4}, [XF_GGUF_BOOL] = {BOOLEAN, 1}, [XF_GGUF_STRING] = {TEXT, 8},
    [XF_GGUF_ARRAY] = {NESTED, 0}, [XF_GGUF_U64] = {UNSIGNED, 8}, [XF_GGUF_I64] = {SIGNED, 8},
    [XF_GGUF_F64] = {FLOATING, 8},
};

size_t xf_gguf_type_size(enum xf_gguf_type type)
{
  return types[type].bytes;
}

int xf_gguf_compare_keys(const void *a, const void *b)
{
  struct xf_gguf_string x = ((const struct xf_gguf_value *)a)->key;
  struct xf_gguf_string y = ((const struct xf_gguf_value *)b)->key;
  int order = memcmp(x.text, y.text, x.bytes < y.bytes ? x.bytes : y.bytes);
  return order ? order : (x.bytes > y.bytes) - (x.bytes < y.bytes);
}

bool xf_gguf_string_equal(struct xf_gguf_string string, const char *text)
{
  return string.bytes == strlen(text) && memcmp(string.text, text, string.bytes) == 0;
}

const struct xf_gguf_value *xf_gguf_find(const struct xf_gguf *gguf, const char *key)
{
  const struct xf_gguf_value wanted = {.key = {key, strlen(key)}};
  return bsearch(&wanted, gguf->values, gguf->n_values, sizeof wanted, xf_gguf_compare_keys);
}

static bool is_integer(const struct xf_gguf_value *value)
{
  return types[value->type].kind == UNSIGNED || types[value->type].kind == SIGNED;
}

static bool is_number(const struct xf_gguf_value *value)
{
  return is_integer(value) || types[value->type].kind == FLOATING;
}

/* Of the value, for messages: where its key begins. */
static size_t offset_of(const struct xf_gguf *gguf, const struct xf_gguf_value *value)
{
  return (size_t)(value->key.text - (const char *)gguf->file.data);
}

static xf_status fail_type(const struct xf_gguf *gguf, const struct xf_gguf_value *value,
                           const char *wanted, xf_error *error)
{
  return xf_fail(error, XF_E_FORMAT, "%s: key %.*s, at byte %zu: must be %s", gguf->path,
                 (int)xf_min(value->key.bytes, 80), value->key.text, offset_of(gguf, value),
                 wanted);
}

int64_t xf_gguf_integer_at(const struct xf_gguf_value *value, size_t i)
{
  size_t bytes = types[value->type].bytes;
  uint64_t bits = xf_load_le(value->data + i * bytes, bytes);
  if (types[value->type].kind == UNSIGNED) return bits > INT64_MAX ? INT64_MAX : (int64_t)bits;
  uint64_t sign = UINT64_C(1) << (8 * bytes - 1);
  return (int64_t)((bits ^ sign) - sign);
}

double xf_gguf_number_at(const struct xf_gguf_value *value, size_t i)
{
  float single;
  double number;
  if (value->type == XF_GGUF_F32) {
    memcpy(&single, value->data + i * sizeof single, sizeof single);
    return (double)single;
  }
  if (value->type != XF_GGUF_F64) return (double)xf_gguf_integer_at(value, i);
  memcpy(&number, value->data + i * sizeof number, sizeof number);
  return number;
}

void xf_gguf_strings(const struct xf_gguf_value *value, struct xf_gguf_string *out)
{
  const unsigned char *next = value->data;
  for (size_t i = 0; i < value->n; i++) {
    size_t bytes = (size_t)xf_load_le(next, sizeof(uint64_t));
    next += sizeof(uint64_t);
    out[i] = (struct xf_gguf_string){(const char *)next, bytes};
    next += bytes;
  }
}

xf_status xf_gguf_get_integer(const struct xf_gguf *gguf, const char *key, int64_t low,
                              int64_t high, int64_t *out, xf_error *error)
{
  const struct xf_gguf_value *value = xf_gguf_find(gguf, key);
  if (!value) return XF_OK;
  if (value->is_array || !is_integer(value)) return fail_type(gguf, value, "an integer", error);
  int64_t integer = xf_gguf_integer_at(value, 0);
  if (integer < low || integer > high)
    return xf_fail(error, XF_E_FORMAT,
                   "%s: key %s, at byte %zu: must be an integer from %lld to %lld", gguf->path, key,
                   offset_of(gguf, value), (long long)low, (long long)high);
  *out = integer;
  return XF_OK;
}

xf_status xf_gguf_get_number(const struct xf_gguf *gguf, const char *key, double low, double high,
                             double *out, xf_error *error)
{
  const struct xf_gguf_value *value = xf_gguf_find(gguf, key);
  if (!value) return XF_OK;
  if (value->is_array || !is_number(value)) return fail_type(gguf, value, "a number", error);
  double number = xf_gguf_number_at(value, 0);
  if (!(number >= low && number <= high))
    return xf_fail(error, XF_E_FORMAT, "%s: key %s, at byte %zu: must be a number from %g to %g",
                   gguf->path, key, offset_of(gguf, value), low, high);
  *out = number;
  return XF_OK;
}

xf_status xf_gguf_get_bool(const struct xf_gguf *gguf, const char *key, bool *out, xf_error *error)
{
  const struct xf_gguf_value *value = xf_gguf_find(gguf, key);
  if (!value) return XF_OK;
  if (value->is_array || value->type != XF_GGUF_BOOL || value->data[0] > 1)
    return fail_type(gguf, value, "true or false", error);
  *out = value->data[0] != 0;
  return XF_OK;
}

xf_status xf_gguf_get_string(const struct xf_gguf *gguf, const char *key,
                             struct xf_gguf_string *out, xf_error *error)
{
  const struct xf_gguf_value *value = xf_gguf_find(gguf, key);
  if (!value) return XF_OK;
  if (value->is_array || value->type != XF_GGUF_STRING)
    return fail_type(gguf, value, "a string", error);
  xf_gguf_strings(value, out);
  return XF_OK;
}

xf_status xf_gguf_get_array(const struct xf_gguf *gguf, const char *key, enum xf_gguf_type elements,
                            const struct xf_gguf_value **out, xf_error *error)
{
  const struct xf_gguf_value *value = xf_gguf_find(gguf, key);
  if (!value) return XF_OK;
  bool strings = elements == XF_GGUF_STRING, integers = elements == XF_GGUF_I64;
  bool fits = strings    ? value->type == XF_GGUF_STRING
              : integers ? is_integer(value)
                         : is_number(value);
  if (!value->is_array || !fits)
    return fail_type(gguf, value,
                     strings    ? "an array of strings"
                     : integers ? "an array of integers"
                                : "an array of numbers",
                     error);
  *out = value;
  return XF_OK;
}
