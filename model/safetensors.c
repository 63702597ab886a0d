#include "model/safetensors.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dispatch/error.h"
#include "dispatch/memory.h"
#include "model/json.h"

enum { LENGTH_BYTES = 8, MAX_RANK = 4 };

static xf_status fail_tensor(const struct xf_tensor *tensor, const char *reason, xf_error *error)
{
  return xf_fail(error, XF_E_FORMAT, "%s: %s, in the header's entry of tensor %s", tensor->path,
                 reason, tensor->name);
}

static bool read_size(const cJSON *item, size_t *out)
{
  return xf_json_integer(item, 0, (size_t)1 << 53, out);
}

/* Fills shape and rank, and multiplies *elements by all sizes. */
static xf_status read_shape(const cJSON *shape, struct xf_tensor *tensor, size_t *elements,
                            xf_error *error)
{
  if (!cJSON_IsArray(shape)) return fail_tensor(tensor, "shape is no list", error);
  const cJSON *item;
  cJSON_ArrayForEach(item, shape)
  {
    size_t size;
    if (!read_size(item, &size)) return fail_tensor(tensor, "shape holds what is no size", error);
    if (__builtin_mul_overflow(*elements, size, elements))
      return fail_tensor(tensor, "the product of shape overflows", error);
    if (tensor->rank < MAX_RANK) tensor->shape[tensor->rank] = size;
    tensor->rank++;
  }
  return XF_OK;
}

static xf_type find_type(const char *dtype)
{
  if (strcmp(dtype, "F32") == 0) return XF_F32;
  if (strcmp(dtype, "F16") == 0) return XF_F16;
  return strcmp(dtype, "BF16") == 0 ? XF_BF16 : (xf_type)0;
}

/* data: the file's bytes behind the header. */
static xf_status read_data(const cJSON *offsets, const unsigned char *data, size_t data_bytes,
                           size_t elements, struct xf_tensor *tensor, xf_error *error)
{
  size_t begin, end, expected;
  if (!cJSON_IsArray(offsets) || cJSON_GetArraySize(offsets) != 2 ||
      !read_size(offsets->child, &begin) || !read_size(offsets->child->next, &end))
    return fail_tensor(tensor, "data_offsets is no pair of sizes", error);
  if (begin > end || end > data_bytes)
    return fail_tensor(tensor, "data_offsets are not in the file (is it truncated?)", error);
  tensor->data = data + begin;
  tensor->bytes = end - begin;
  if (tensor->type && (__builtin_mul_overflow(elements, xf_type_size(tensor->type), &expected) ||
                       expected != tensor->bytes))
    return fail_tensor(tensor, "shape and dtype disagree with data_offsets", error);
  return XF_OK;
}

static xf_status read_tensor(const cJSON *json, const unsigned char *data, size_t data_bytes,
                             struct xf_tensor *tensor, xf_error *error)
{
  const cJSON *dtype = cJSON_GetObjectItemCaseSensitive(json, "dtype");
  if (!cJSON_IsString(dtype)) return fail_tensor(tensor, "dtype is no string", error);
  tensor->dtype = dtype->valuestring;
  tensor->type = find_type(tensor->dtype);
  size_t elements = 1;
  xf_status status =
      read_shape(cJSON_GetObjectItemCaseSensitive(json, "shape"), tensor, &elements, error);
  if (status != XF_OK) return status;
  return read_data(cJSON_GetObjectItemCaseSensitive(json, "data_offsets"), data, data_bytes,
                   elements, tensor, error);
}

/* __metadata__ maps strings to strings; nothing here needs it. */
static xf_status check_metadata(const char *path, const cJSON *json, xf_error *error)
{
  bool good = cJSON_IsObject(json);
  for (const cJSON *item = json->child; good && item; item = item->next)
    good = cJSON_IsString(item);
  if (good) return XF_OK;
  return xf_fail(error, XF_E_FORMAT, "%s: the header's __metadata__ must map strings to strings",
                 path);
}

/* The format wants every byte in exactly one tensor: no holes, no overlap. Sorts the tensors. */
static xf_status check_cover(struct xf_safetensors *file, const unsigned char *data,
                             size_t data_bytes, xf_error *error)
{
  qsort(file->tensors, file->n, sizeof *file->tensors, xf_tensor_compare_data);
  const unsigned char *end = data;
  for (size_t i = 0; i < file->n; i++) {
    const struct xf_tensor *tensor = &file->tensors[i];
    const unsigned char *begin = tensor->data;
    if (begin < end) return fail_tensor(tensor, "data_offsets overlap another tensor's", error);
    if (begin > end) return fail_tensor(tensor, "data_offsets leave a hole before it", error);
    end = begin + tensor->bytes;
  }
  size_t rest = data_bytes - (size_t)(end - data);
  if (rest != 0)
    return xf_fail(error, XF_E_FORMAT, "%s: %zu bytes behind the last tensor belong to none",
                   file->path, rest);
  return XF_OK;
}

static xf_status read_tensors(struct xf_safetensors *file, const unsigned char *data,
                              size_t data_bytes, xf_error *error)
{
  size_t capacity = (size_t)cJSON_GetArraySize(file->header);
  file->tensors = xf_alloc_zeroed(capacity, sizeof *file->tensors);
  if (!file->tensors) return xf_file_no_memory(error, file->path);
  const cJSON *json;
  cJSON_ArrayForEach(json, file->header)
  {
    xf_status status;
    if (strcmp(json->string, "__metadata__") == 0) {
      status = check_metadata(file->path, json, error);
    } else {
      struct xf_tensor *tensor = &file->tensors[file->n++];
      tensor->path = file->path;
      tensor->name = json->string;
      status = read_tensor(json, data, data_bytes, tensor, error);
    }
    if (status != XF_OK) return status;
  }
  xf_status status = check_cover(file, data, data_bytes, error);
  qsort(file->tensors, file->n, sizeof *file->tensors, xf_tensor_compare);
  return status;
}

/* Reads the header of a file that is mapped. */
static xf_status read_header(struct xf_safetensors *file, xf_error *error)
{
  const unsigned char *data = file->file.data;
  size_t bytes = file->file.bytes;
  if (bytes < LENGTH_BYTES)
    return xf_fail(error, XF_E_FORMAT, "%s: %zu bytes are too few for a safetensors file",
                   file->path, bytes);
  uint64_t header_bytes = xf_load_le(data, LENGTH_BYTES);
  data += LENGTH_BYTES;
  bytes -= LENGTH_BYTES;
  if (header_bytes > bytes)
    return xf_fail(error, XF_E_FORMAT,
                   "%s: the header's length of %llu bytes exceeds the file: it is truncated or not "
                   "in safetensors format",
                   file->path, (unsigned long long)header_bytes);
  xf_status status =
      xf_json_parse(file->path, (const char *)data, (size_t)header_bytes, &file->header, error);
  if (status != XF_OK) return status;
  return read_tensors(file, data + header_bytes, bytes - (size_t)header_bytes, error);
}

xf_status xf_safetensors_open(const char *folder, const char *name, struct xf_safetensors *out,
                              xf_error *error)
{
  *out = (struct xf_safetensors){.path = xf_path_join(folder, name)};
  if (!out->path) return xf_file_no_memory(error, folder);
  out->name = out->path + strlen(out->path) - strlen(name);
  xf_status status = xf_file_map(out->path, &out->file, error);
  if (status == XF_OK) status = read_header(out, error);
  if (status != XF_OK) xf_safetensors_close(out);
  return status;
}

void xf_safetensors_close(struct xf_safetensors *file)
{
  xf_file_unmap(&file->file);
  cJSON_Delete(file->header);
  xf_free(file->tensors);
  xf_free(file->path);
  *file = (struct xf_safetensors){0};
}
