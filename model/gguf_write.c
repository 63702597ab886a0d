#include "model/gguf_write.h"

#include <assert.h>

#include "dispatch/error.h"
#include "dispatch/memory.h"
#include "model/gguf_format.h"
#include "model/new_file.h"

static const char *const ALIGNMENT_KEY = "general.alignment";
enum { MOST_ALIGNMENT = 4096 };

/* Bytes that grow. */
struct buffer {
  unsigned char *data;
  size_t bytes, capacity;
};

struct xf_gguf_writer {
  struct buffer values, tensors; /* their entries as the file has them */
  uint64_t n_values, n_tensors;
  struct buffer sizes; /* uint64_t [n_tensors]: bytes of data */
  uint64_t data_bytes; /* of all tensors so far, with their padding */
  size_t alignment;
  xf_error failure; /* the first one of an xf_gguf_add_… */
  struct xf_new_file file;
  uint64_t tensor, given; /* the tensor whose data comes next, and how much of it has come */
};

static void put(struct xf_gguf_writer *writer, struct buffer *buffer, const void *data,
                size_t bytes)
{
  if (bytes > buffer->capacity - buffer->bytes) {
    size_t capacity = 2 * (buffer->bytes + bytes) + 1024;
    unsigned char *grown = xf_alloc(capacity, 1);
    if (!grown) {
      if (!writer->failure.status)
        xf_fail(&writer->failure, XF_E_MEMORY, "out of memory for a GGUF file's metadata");
      return;
    }
    if (buffer->bytes) memcpy(grown, buffer->data, buffer->bytes);
    xf_free(buffer->data);
    buffer->data = grown;
    buffer->capacity = capacity;
  }
  if (bytes) memcpy(buffer->data + buffer->bytes, data, bytes);
  buffer->bytes += bytes;
}

static void put_u32(struct xf_gguf_writer *writer, struct buffer *buffer, uint32_t value)
{
  put(writer, buffer, &value, sizeof value);
}

static void put_u64(struct xf_gguf_writer *writer, struct buffer *buffer, uint64_t value)
{
  put(writer, buffer, &value, sizeof value);
}

static void put_string(struct xf_gguf_writer *writer, struct buffer *buffer, const char *text,
                       size_t bytes)
{
  put_u64(writer, buffer, bytes);
  put(writer, buffer, text, bytes);
}

/* ---- metadata ---- */

static void add_scalar(struct xf_gguf_writer *writer, const char *key, enum xf_gguf_type type,
                       const void *value, size_t bytes)
{
  const struct xf_gguf_value whole = {
      .key = {key, strlen(key)}, .type = type, .n = 1, .data = value, .bytes = bytes};
  xf_gguf_add_value(writer, &whole);
}

void xf_gguf_add_value(struct xf_gguf_writer *writer, const struct xf_gguf_value *value)
{
  struct buffer *values = &writer->values;
  if (xf_gguf_string_equal(value->key, ALIGNMENT_KEY)) return;
  put_string(writer, values, value->key.text, value->key.bytes);
  if (value->is_array) put_u32(writer, values, XF_GGUF_ARRAY);
  put_u32(writer, values, value->type);
  if (value->is_array) put_u64(writer, values, value->n);
  put(writer, values, value->data, value->bytes);
  writer->n_values++;
}

void xf_gguf_add_bool(struct xf_gguf_writer *writer, const char *key, bool value)
{
  unsigned char byte = value;
  add_scalar(writer, key, XF_GGUF_BOOL, &byte, sizeof byte);
}

void xf_gguf_add_u32(struct xf_gguf_writer *writer, const char *key, uint32_t value)
{
  add_scalar(writer, key, XF_GGUF_U32, &value, sizeof value);
}

void xf_gguf_add_f32(struct xf_gguf_writer *writer, const char *key, float value)
{
  add_scalar(writer, key, XF_GGUF_F32, &value, sizeof value);
}

void xf_gguf_add_array(struct xf_gguf_writer *writer, const char *key, enum xf_gguf_type type,
                       const void *values, size_t n)
{
  const struct xf_gguf_value whole = {.key = {key, strlen(key)},
                                      .type = type,
                                      .is_array = true,
                                      .n = n,
                                      .data = values,
                                      .bytes = n * xf_gguf_type_size(type)};
  xf_gguf_add_value(writer, &whole);
}

void xf_gguf_add_string(struct xf_gguf_writer *writer, const char *key, const char *text)
{
  struct buffer *values = &writer->values;
  put_string(writer, values, key, strlen(key));
  put_u32(writer, values, XF_GGUF_STRING);
  put_string(writer, values, text, strlen(text));
  writer->n_values++;
}

void xf_gguf_add_strings(struct xf_gguf_writer *writer, const char *key,
                         const struct xf_gguf_string *strings, size_t n)
{
  struct buffer *values = &writer->values;
  put_string(writer, values, key, strlen(key));
  put_u32(writer, values, XF_GGUF_ARRAY);
  put_u32(writer, values, XF_GGUF_STRING);
  put_u64(writer, values, n);
  for (size_t i = 0; i < n; i++) put_string(writer, values, strings[i].text, strings[i].bytes);
  writer->n_values++;
}

void xf_gguf_writer_align(struct xf_gguf_writer *writer, uint32_t alignment)
{
  struct buffer *values = &writer->values;
  assert(alignment && alignment <= MOST_ALIGNMENT && writer->n_tensors == 0);
  put_string(writer, values, ALIGNMENT_KEY, strlen(ALIGNMENT_KEY));
  put_u32(writer, values, XF_GGUF_U32);
  put_u32(writer, values, alignment);
  writer->n_values++;
  writer->alignment = alignment;
}

/* ---- tensors ---- */

void xf_gguf_add_tensor(struct xf_gguf_writer *writer, const char *name,
                        const struct xf_ggml_type *type, size_t rank, const size_t *shape)
{
  struct buffer *tensors = &writer->tensors;
  uint64_t elements = 1, bytes = 0, end = 0;
  put_string(writer, tensors, name, strlen(name));
  put_u32(writer, tensors, (uint32_t)rank);
  bool overflow = false;
  for (size_t i = rank; i-- > 0;) {
    put_u64(writer, tensors, shape[i]);
    overflow |= __builtin_mul_overflow(elements, shape[i], &elements);
  }
  put_u32(writer, tensors, type->id);
  put_u64(writer, tensors, writer->data_bytes);
  overflow |= __builtin_mul_overflow(elements / type->block, type->block_bytes, &bytes) ||
              __builtin_add_overflow(writer->data_bytes, bytes, &end) ||
              end > SIZE_MAX - writer->alignment;
  if (overflow && !writer->failure.status)
    xf_fail(&writer->failure, XF_E_ARGUMENT, "tensor %s: its size overflows", name);
  if (overflow) return;
  put_u64(writer, &writer->sizes, bytes);
  writer->data_bytes = xf_round_up(end, writer->alignment);
  writer->n_tensors++;
}

static xf_status pad(struct xf_gguf_writer *writer, uint64_t bytes, xf_error *error)
{
  static const unsigned char zeros[MOST_ALIGNMENT];
  return xf_new_file_write(&writer->file, zeros, xf_round_up(bytes, writer->alignment) - bytes,
                           error);
}

static xf_status write_head(struct xf_gguf_writer *writer, xf_error *error)
{
  struct xf_new_file *file = &writer->file;
  const uint32_t begin[] = {XF_GGUF_MAGIC, XF_GGUF_VERSION};
  const uint64_t counts[] = {writer->n_tensors, writer->n_values};
  xf_status status = xf_new_file_write(file, begin, sizeof begin, error);
  if (status == XF_OK) status = xf_new_file_write(file, counts, sizeof counts, error);
  if (status == XF_OK)
    status = xf_new_file_write(file, writer->values.data, writer->values.bytes, error);
  if (status == XF_OK)
    status = xf_new_file_write(file, writer->tensors.data, writer->tensors.bytes, error);
  size_t bytes = sizeof begin + sizeof counts + writer->values.bytes + writer->tensors.bytes;
  return status == XF_OK ? pad(writer, bytes, error) : status;
}

xf_status xf_gguf_writer_start(struct xf_gguf_writer *writer, const char *path, xf_error *error)
{
  if (writer->failure.status)
    return xf_fail(error, writer->failure.status, "%s: %s", path, writer->failure.message);
  xf_status status = xf_new_file_create(path, &writer->file, error);
  return status == XF_OK ? write_head(writer, error) : status;
}

static uint64_t size_of(const struct xf_gguf_writer *writer, uint64_t tensor)
{
  return xf_load_le(writer->sizes.data + tensor * sizeof(uint64_t), sizeof(uint64_t));
}

/* Goes on to the next tensor that has data. */
static xf_status skip_complete(struct xf_gguf_writer *writer, xf_error *error)
{
  xf_status status = XF_OK;
  while (writer->tensor < writer->n_tensors && status == XF_OK &&
         writer->given == size_of(writer, writer->tensor)) {
    status = pad(writer, writer->given, error);
    writer->tensor++;
    writer->given = 0;
  }
  return status;
}

xf_status xf_gguf_writer_data(struct xf_gguf_writer *writer, const void *data, size_t bytes,
                              xf_error *error)
{
  assert(writer->file.temporary); /* started, and not finished */
  xf_status status = skip_complete(writer, error);
  if (status != XF_OK) return status;
  if (writer->tensor == writer->n_tensors ||
      bytes > size_of(writer, writer->tensor) - writer->given)
    return xf_fail(error, XF_E_ARGUMENT, "%s: more data than tensor %llu has", writer->file.path,
                   (unsigned long long)writer->tensor);
  writer->given += bytes;
  return xf_new_file_write(&writer->file, data, bytes, error);
}

/* What the reader would refuse never gets its name. */
xf_status xf_gguf_writer_finish(struct xf_gguf_writer *writer, xf_error *error)
{
  assert(writer->file.temporary);
  xf_status status = skip_complete(writer, error);
  if (status != XF_OK) return status;
  if (writer->tensor < writer->n_tensors)
    return xf_fail(error, XF_E_ARGUMENT, "%s: the data of tensor %llu is not complete",
                   writer->file.path, (unsigned long long)writer->tensor);
  struct xf_gguf written;
  status = xf_gguf_open(writer->file.temporary, &written, error);
  xf_gguf_close(&written);
  return status == XF_OK ? xf_new_file_commit(&writer->file, error) : status;
}

xf_status xf_gguf_writer_create(struct xf_gguf_writer **out, xf_error *error)
{
  *out = xf_alloc_zeroed(1, sizeof **out);
  if (!*out) return xf_fail(error, XF_E_MEMORY, "out of memory for a GGUF writer");
  (*out)->alignment = XF_GGUF_ALIGNMENT;
  return XF_OK;
}

void xf_gguf_writer_destroy(struct xf_gguf_writer *writer)
{
  if (!writer) return;
  xf_new_file_discard(&writer->file);
  xf_free(writer->values.data);
  xf_free(writer->tensors.data);
  xf_free(writer->sizes.data);
  xf_free(writer);
}
