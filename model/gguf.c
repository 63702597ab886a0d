#include "model/gguf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dispatch/error.h"
#include "dispatch/memory.h"
#include "dispatch/utf8.h"
#include "model/ggml_type.h"
#include "model/gguf_format.h"

/* The shortest entries: an empty key and one byte; a tensor without name and sizes. */
enum { MIN_VALUE_BYTES = 8 + 4 + 1, MIN_TENSOR_BYTES = 8 + 4 + 4 + 8 };

struct reader {
  struct xf_gguf *out;
  const unsigned char *data;
  size_t bytes, at;
  char entry[128]; /* "key general.alignment": what is being read, for messages */
  xf_error *error;
};

static xf_status fail(const struct reader *reader, const char *reason)
{
  return xf_fail(reader->error, XF_E_FORMAT, "%s: %s, at byte %zu: %s", reader->out->path,
                 reader->entry, reader->at, reason);
}

static void name_entry(struct reader *reader, const char *kind, struct xf_gguf_string name)
{
  snprintf(reader->entry, sizeof reader->entry, "%s %.*s", kind, (int)xf_min(name.bytes, 80),
           name.text);
}

/* An unsigned integer of that many bytes. */
static xf_status take(struct reader *reader, size_t bytes, uint64_t *out)
{
  if (reader->bytes - reader->at < bytes) return fail(reader, "the file ends here; is it cut off?");
  *out = xf_load_le(reader->data + reader->at, bytes);
  reader->at += bytes;
  return XF_OK;
}

static xf_status take_u32(struct reader *reader, uint32_t *out)
{
  uint64_t wide = 0;
  xf_status status = take(reader, sizeof *out, &wide);
  *out = (uint32_t)wide;
  return status;
}

static xf_status take_string(struct reader *reader, struct xf_gguf_string *out)
{
  uint64_t bytes = 0;
  xf_status status = take(reader, sizeof bytes, &bytes);
  if (status != XF_OK) return status;
  if (bytes > reader->bytes - reader->at)
    return fail(reader, "a string is longer than the file; is it cut off?");
  *out = (struct xf_gguf_string){(const char *)reader->data + reader->at, (size_t)bytes};
  if (!xf_utf8_valid(out->text, out->bytes)) return fail(reader, "a string is not UTF-8");
  reader->at += out->bytes;
  return XF_OK;
}

/* The name of a key or a tensor: messages and look-ups have it as a C string. */
static xf_status take_name(struct reader *reader, const char *kind, size_t most,
                           struct xf_gguf_string *out)
{
  xf_status status = take_string(reader, out);
  if (status != XF_OK) return status;
  name_entry(reader, kind, *out);
  if (out->bytes > most) return fail(reader, "the name is too long");
  return memchr(out->text, '\0', out->bytes) ? fail(reader, "the name holds a NUL") : XF_OK;
}

/* Walks over value->n elements of value->type. */
static xf_status take_elements(struct reader *reader, struct xf_gguf_value *value, uint64_t n)
{
  size_t size = xf_gguf_type_size(value->type), begin = reader->at;
  if (n > (reader->bytes - reader->at) / size)
    return fail(reader, "more elements than the file holds; is it cut off?");
  value->n = (size_t)n;
  value->data = reader->data + begin;
  xf_status status = XF_OK;
  if (value->type == XF_GGUF_STRING) {
    struct xf_gguf_string string;
    for (size_t i = 0; i < value->n && status == XF_OK; i++) status = take_string(reader, &string);
  } else {
    reader->at += value->n * size;
  }
  value->bytes = reader->at - begin;
  return status;
}

static xf_status take_type(struct reader *reader, enum xf_gguf_type *out)
{
  uint32_t type = 0;
  xf_status status = take_u32(reader, &type);
  if (status != XF_OK) return status;
  if (type >= XF_GGUF_TYPES) return fail(reader, "unknown type of value");
  *out = (enum xf_gguf_type)type;
  return XF_OK;
}

static xf_status take_value(struct reader *reader, struct xf_gguf_value *value)
{
  *value = (struct xf_gguf_value){0};
  snprintf(reader->entry, sizeof reader->entry, "a key");
  xf_status status = take_name(reader, "key", XF_GGUF_MAX_KEY, &value->key);
  if (status == XF_OK) status = take_type(reader, &value->type);
  if (status != XF_OK) return status;
  value->is_array = value->type == XF_GGUF_ARRAY;
  if (!value->is_array) return take_elements(reader, value, 1);
  uint64_t n = 0;
  status = take_type(reader, &value->type);
  if (status == XF_OK && value->type == XF_GGUF_ARRAY)
    status = fail(reader, "arrays of arrays are not supported");
  if (status == XF_OK) status = take(reader, sizeof n, &n);
  return status == XF_OK ? take_elements(reader, value, n) : status;
}

static xf_status take_values(struct reader *reader)
{
  struct xf_gguf *out = reader->out;
  for (size_t i = 0; i < out->n_values; i++) {
    xf_status status = take_value(reader, &out->values[i]);
    if (status != XF_OK) return status;
  }
  qsort(out->values, out->n_values, sizeof *out->values, xf_gguf_compare_keys);
  for (size_t i = 1; i < out->n_values; i++) {
    const struct xf_gguf_value *value = &out->values[i];
    if (xf_gguf_compare_keys(value - 1, value) != 0) continue;
    name_entry(reader, "key", value->key);
    reader->at = (size_t)((const unsigned char *)value->key.text - reader->data);
    return fail(reader, "the key is there twice");
  }
  return XF_OK;
}

/* Reads rank and sizes, which the file has innermost first, and multiplies them. */
static xf_status take_shape(struct reader *reader, struct xf_tensor *tensor, size_t *elements)
{
  uint32_t rank = 0;
  xf_status status = take_u32(reader, &rank);
  if (status != XF_OK) return status;
  if (rank > sizeof tensor->shape / sizeof *tensor->shape)
    return fail(reader, "more than four sizes");
  tensor->rank = rank;
  *elements = 1;
  for (size_t i = rank; i-- > 0;) {
    uint64_t size = 0;
    status = take(reader, sizeof size, &size);
    if (status != XF_OK) return status;
    if (__builtin_mul_overflow(*elements, size, elements))
      return fail(reader, "the product of its sizes overflows");
    tensor->shape[i] = (size_t)size;
  }
  return XF_OK;
}

static xf_status take_element_type(struct reader *reader, struct xf_tensor *tensor, size_t elements)
{
  uint32_t id = 0;
  xf_status status = take_u32(reader, &id);
  if (status != XF_OK) return status;
  const struct xf_ggml_type *type = xf_ggml_type_find(id);
  if (!type)
    return xf_fail(reader->error, XF_E_UNSUPPORTED, "%s: %s, at byte %zu: unknown element type %u",
                   tensor->path, reader->entry, reader->at - sizeof id, id);
  tensor->type = type->type;
  tensor->dtype = type->name;
  if ((tensor->rank ? tensor->shape[tensor->rank - 1] : 1) % type->block != 0)
    return fail(reader, "its rows do not hold whole blocks of its type");
  if (__builtin_mul_overflow(elements / type->block, type->block_bytes, &tensor->bytes))
    return fail(reader, "its size overflows");
  return XF_OK;
}

/* tensor->data lies as far behind the file's beginning as it will behind that of the data, which is
 * known later; place_tensors moves it. */
static xf_status take_tensor(struct reader *reader, struct xf_tensor *tensor, char *name)
{
  struct xf_gguf_string given;
  size_t elements = 1;
  uint64_t offset = 0;
  *tensor = (struct xf_tensor){.name = name, .path = reader->out->path};
  snprintf(reader->entry, sizeof reader->entry, "a tensor");
  xf_status status = take_name(reader, "tensor", XF_GGUF_MAX_TENSOR_NAME, &given);
  if (status != XF_OK) return status;
  memcpy(name, given.text, given.bytes);
  name[given.bytes] = '\0';
  status = take_shape(reader, tensor, &elements);
  if (status == XF_OK) status = take_element_type(reader, tensor, elements);
  if (status == XF_OK) status = take(reader, sizeof offset, &offset);
  if (status != XF_OK) return status;
  if (offset > reader->bytes || tensor->bytes > reader->bytes - offset)
    return fail(reader, "its data is not in the file; is it cut off?");
  tensor->data = reader->data + offset;
  return XF_OK;
}

static xf_status fail_tensor(struct reader *reader, const struct xf_tensor *tensor,
                             const char *reason)
{
  name_entry(reader, "tensor", (struct xf_gguf_string){tensor->name, strlen(tensor->name)});
  reader->at = (size_t)((const unsigned char *)tensor->data - reader->data);
  return fail(reader, reason);
}

/* The data begins at the next multiple of the alignment, as does each tensor's in it. */
static xf_status place_tensors(struct reader *reader, size_t alignment)
{
  struct xf_gguf *out = reader->out;
  size_t begin = xf_round_up(reader->at, alignment);
  for (size_t i = 0; i < out->n_tensors; i++) {
    struct xf_tensor *tensor = &out->tensors[i];
    size_t offset = (size_t)((const unsigned char *)tensor->data - reader->data);
    if (offset % alignment != 0)
      return fail_tensor(reader, tensor, "its offset is no multiple of the file's alignment");
    if (begin > reader->bytes - offset || tensor->bytes > reader->bytes - offset - begin)
      return fail_tensor(reader, tensor, "its data is not in the file; is it cut off?");
    tensor->data = reader->data + begin + offset;
  }
  qsort(out->tensors, out->n_tensors, sizeof *out->tensors, xf_tensor_compare_data);
  for (size_t i = 1; i < out->n_tensors; i++) {
    const struct xf_tensor *tensor = &out->tensors[i], *before = tensor - 1;
    if ((const char *)before->data + before->bytes > (const char *)tensor->data)
      return fail_tensor(reader, tensor, "its data overlaps another tensor's");
  }
  qsort(out->tensors, out->n_tensors, sizeof *out->tensors, xf_tensor_compare);
  for (size_t i = 1; i < out->n_tensors; i++)
    if (strcmp(out->tensors[i - 1].name, out->tensors[i].name) == 0)
      return fail_tensor(reader, &out->tensors[i], "the tensor is there twice");
  return XF_OK;
}

static xf_status take_tensors(struct reader *reader)
{
  struct xf_gguf *out = reader->out;
  char *name = out->names;
  for (size_t i = 0; i < out->n_tensors; i++) {
    xf_status status = take_tensor(reader, &out->tensors[i], name);
    if (status != XF_OK) return status;
    name += strlen(name) + 1;
  }
  int64_t alignment = XF_GGUF_ALIGNMENT;
  xf_status status = xf_gguf_get_integer(out, "general.alignment", 1, XF_GGUF_MAX_ALIGNMENT,
                                         &alignment, reader->error);
  if (status != XF_OK) return status;
  if ((alignment & (alignment - 1)) != 0)
    return xf_fail(reader->error, XF_E_FORMAT, "%s: general.alignment must be a power of two",
                   out->path);
  return place_tensors(reader, (size_t)alignment);
}

static xf_status take_version(struct reader *reader)
{
  uint32_t magic = 0, version = 0;
  xf_status status = take_u32(reader, &magic);
  if (status == XF_OK && magic != XF_GGUF_MAGIC)
    return xf_fail(reader->error, XF_E_FORMAT,
                   "%s: is no GGUF file: it does not begin with GGUF; of a Hugging Face checkpoint "
                   "name the folder",
                   reader->out->path);
  if (status == XF_OK) status = take_u32(reader, &version);
  if (status != XF_OK || version == 2 || version == XF_GGUF_VERSION) return status;
  if (version != 0 && version % 65536 == 0)
    return xf_fail(reader->error, XF_E_UNSUPPORTED, "%s: big-endian GGUF is not supported",
                   reader->out->path);
  return xf_fail(reader->error, XF_E_UNSUPPORTED,
                 "%s: only versions 2 and 3 of GGUF are supported, not %u; convert the model again",
                 reader->out->path, version);
}

/* Reads the two counts, and allocates for no more entries than the file has room for. */
static xf_status take_counts(struct reader *reader)
{
  struct xf_gguf *out = reader->out;
  uint64_t tensors = 0, values = 0;
  xf_status status = take(reader, sizeof tensors, &tensors);
  if (status == XF_OK) status = take(reader, sizeof values, &values);
  if (status != XF_OK) return status;
  size_t rest = reader->bytes - reader->at;
  if (tensors > rest / MIN_TENSOR_BYTES || values > rest / MIN_VALUE_BYTES)
    return fail(reader, "more tensors or keys than the file holds; is it cut off?");
  out->values = xf_alloc((size_t)values, sizeof *out->values);
  out->tensors = xf_alloc((size_t)tensors, sizeof *out->tensors);
  out->names = xf_alloc((size_t)tensors, XF_GGUF_MAX_TENSOR_NAME + 1);
  if (!out->values || !out->tensors || !out->names)
    return xf_file_no_memory(reader->error, out->path);
  out->n_values = (size_t)values;
  out->n_tensors = (size_t)tensors;
  return XF_OK;
}

static xf_status read_file(struct xf_gguf *out, xf_error *error)
{
  struct reader reader = {.out = out,
                          .data = out->file.data,
                          .bytes = out->file.bytes,
                          .entry = "the header",
                          .error = error};
  xf_status status = take_version(&reader);
  if (status == XF_OK) status = take_counts(&reader);
  if (status == XF_OK) status = take_values(&reader);
  return status == XF_OK ? take_tensors(&reader) : status;
}

xf_status xf_gguf_open(const char *path, struct xf_gguf *out, xf_error *error)
{
  *out = (struct xf_gguf){.path = xf_alloc(strlen(path) + 1, 1)};
  if (!out->path) return xf_file_no_memory(error, path);
  memcpy(out->path, path, strlen(path) + 1);
  xf_status status = xf_file_map(path, &out->file, error);
  if (status == XF_OK) status = read_file(out, error);
  if (status != XF_OK) xf_gguf_close(out);
  return status;
}

void xf_gguf_close(struct xf_gguf *gguf)
{
  xf_file_unmap(&gguf->file);
  xf_free(gguf->values);
  xf_free(gguf->tensors);
  xf_free(gguf->names);
  xf_free(gguf->path);
  *gguf = (struct xf_gguf){0};
}

bool xf_gguf_is_path(const char *path)
{
  return xf_path_exists(path) ? !xf_path_is_folder(path) : xf_path_ends_in(path, ".gguf");
}

bool xf_gguf_begins(const struct xf_file *file)
{
  return file->bytes >= 4 && xf_load_le(file->data, 4) == XF_GGUF_MAGIC;
}
