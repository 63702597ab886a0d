/* GGUF, versions 2 and 3, little-endian: a file of metadata (key → value) and tensors.
 * https://github.com/ggml-org/ggml/blob/master/docs/gguf.md */
#ifndef XF_MODEL_GGUF_H
#define XF_MODEL_GGUF_H

#include <stdbool.h>

#include "model/file.h"
#include "model/tensor.h"

/* As the file numbers them. */
enum xf_gguf_type {
  XF_GGUF_U8,
  XF_GGUF_I8,
  XF_GGUF_U16,
  XF_GGUF_I16,
  XF_GGUF_U32,
  XF_GGUF_I32,
  XF_GGUF_F32,
  XF_GGUF_BOOL,
  XF_GGUF_STRING,
  XF_GGUF_ARRAY,
  XF_GGUF_U64,
  XF_GGUF_I64,
  XF_GGUF_F64,
  XF_GGUF_TYPES
};

/* UTF-8 inside the mapped file; no NUL ends it. A value's string may hold NULs, a key does not. */
struct xf_gguf_string {
  const char *text;
  size_t bytes;
};

struct xf_gguf_value {
  struct xf_gguf_string key;
  enum xf_gguf_type type; /* of an array: of its elements, never XF_GGUF_ARRAY */
  bool is_array;
  size_t n;                  /* elements; 1 for what is no array */
  const unsigned char *data; /* the elements as the file has them, maybe unaligned */
  size_t bytes;
};

struct xf_gguf {
  char *path;
  struct xf_file file;
  struct xf_gguf_value *values; /* [n_values], by key */
  size_t n_values;
  struct xf_tensor *tensors; /* [n_tensors], by name; sizes outermost first, as numpy has them */
  size_t n_tensors;
  char *names; /* of the tensors */
};

/* Maps the file and checks all of it but the tensors' elements: every length and offset is inside
 * the file, strings are UTF-8, no key or tensor is there twice, no two tensors overlap. Memory is
 * proportional to what the file really holds. On failure *out is empty. */
xf_status xf_gguf_open(const char *path, struct xf_gguf *out, xf_error *error);
void xf_gguf_close(struct xf_gguf *gguf); /* leaves it empty; an empty one is allowed */

/* Whether a model's path is to be opened as GGUF: it is no folder; where nothing is there, it ends
 * in ".gguf". */
bool xf_gguf_is_path(const char *path);

/* Whether a file begins as one of GGUF. */
bool xf_gguf_begins(const struct xf_file *file);

/* NULL where there is no such key. */
const struct xf_gguf_value *xf_gguf_find(const struct xf_gguf *gguf, const char *key);

/* Typed look-ups. An absent key is XF_OK and leaves *out as it is; another type or a value out of
 * [low, high] is XF_E_FORMAT naming file and key. Integers may have any integer type, numbers any
 * integer or floating-point type. */
xf_status xf_gguf_get_integer(const struct xf_gguf *gguf, const char *key, int64_t low,
                              int64_t high, int64_t *out, xf_error *error);
xf_status xf_gguf_get_number(const struct xf_gguf *gguf, const char *key, double low, double high,
                             double *out, xf_error *error);
xf_status xf_gguf_get_bool(const struct xf_gguf *gguf, const char *key, bool *out, xf_error *error);
xf_status xf_gguf_get_string(const struct xf_gguf *gguf, const char *key,
                             struct xf_gguf_string *out, xf_error *error);

/* An array of strings, of any integer type (XF_GGUF_I64) or of any number type (XF_GGUF_F64);
 * value->n is its length. An absent key leaves *out as it is. */
xf_status xf_gguf_get_array(const struct xf_gguf *gguf, const char *key, enum xf_gguf_type elements,
                            const struct xf_gguf_value **out, xf_error *error);
/* Element i of a value of that kind. */
int64_t xf_gguf_integer_at(const struct xf_gguf_value *value, size_t i); /* u64 ≥ 2^63: 2^63 − 1 */
double xf_gguf_number_at(const struct xf_gguf_value *value, size_t i);
/* All strings of a value, in order: out [value->n]. */
void xf_gguf_strings(const struct xf_gguf_value *value, struct xf_gguf_string *out);

bool xf_gguf_string_equal(struct xf_gguf_string string, const char *text);

#endif
