#include "model/tflite.h"

#include <string.h>

#include "dispatch/error.h"
#include "dispatch/memory.h"
#include "model/gguf.h"

/* Fields by the number of their declaration. */
enum model { OPERATOR_CODES = 1, SUBGRAPHS = 2, BUFFERS = 4, SIGNATURES = 7 };
enum subgraph { TENSORS = 0, OPERATORS = 3 };
enum tensor { SHAPE = 0, TYPE = 1, BUFFER = 2, QUANTIZATION = 4 };
enum quantization { SCALE = 2, ZERO_POINT = 3, DIMENSION = 6 };
enum buffer { DATA = 0, OFFSET = 1, SIZE = 2 };
enum code { DEPRECATED_CODE = 0, CODE = 3 };
enum op { CODE_INDEX = 0, INPUTS = 1, OUTPUTS = 2, OPTIONS = 4, OPTIONS_2 = 12 };
enum signature { SIGNATURE_INPUTS = 0, SIGNATURE_OUTPUTS = 1, KEY = 2, SUBGRAPH = 4 };
enum tensor_map { NAME = 0, TENSOR_INDEX = 1 };

enum { RANK_MOST = 8, OP_TENSORS_MOST = 1024 };

static const char IDENTIFIER[] = "TFL3";

struct reader {
  struct xf_tflite *out;
  xf_fb_at model;
  struct xf_fb_vector codes, buffers;
  xf_error *error;
};

static xf_status fail(const struct reader *reader, const char *reason)
{
  return xf_fail(reader->error, XF_E_FORMAT, "%s: %s; is it cut off?", reader->out->path, reason);
}

/* The bytes of a constant, which lie in the FlatBuffer or behind it; none: *data is NULL. */
static xf_status read_buffer(struct reader *reader, xf_fb_at buffer, struct xf_tflite_tensor *out)
{
  struct xf_flatbuffer *fb = &reader->out->fb;
  uint64_t offset = xf_fb_unsigned(fb, buffer, OFFSET, 8, 0);
  uint64_t bytes = xf_fb_unsigned(fb, buffer, SIZE, 8, 0);
  if (offset > 1) { /* 0 and 1 say that there is none outside */
    if (offset > fb->bytes || bytes > fb->bytes - offset)
      return fail(reader, "a tensor's data is not in the file");
    out->data = fb->data + offset;
    out->bytes = (size_t)bytes;
    return XF_OK;
  }
  struct xf_fb_vector inner = xf_fb_vector(fb, buffer, DATA, 1);
  if (inner.n == 0) return XF_OK;
  out->data = fb->data + inner.at;
  out->bytes = inner.n;
  return XF_OK;
}

static xf_status read_tensor(struct reader *reader, xf_fb_at table, struct xf_tflite_tensor *out)
{
  struct xf_flatbuffer *fb = &reader->out->fb;
  struct xf_fb_vector shape = xf_fb_vector(fb, table, SHAPE, sizeof(int32_t));
  *out = (struct xf_tflite_tensor){.type = (int)xf_fb_unsigned(fb, table, TYPE, 1, 0),
                                   .rank = shape.n,
                                   .producer = -1,
                                   .quantization = xf_fb_table(fb, table, QUANTIZATION)};
  if (shape.n > RANK_MOST) return fail(reader, "a tensor has more sizes than any real one");
  for (size_t i = 0; i < shape.n; i++) {
    int32_t size = xf_fb_i32_at(fb, shape, i);
    if (size < 0) return fail(reader, "a tensor has a size below zero");
    if (i < sizeof out->shape / sizeof *out->shape) out->shape[i] = (size_t)size;
  }
  uint64_t index = xf_fb_unsigned(fb, table, BUFFER, 4, 0);
  if (index == 0) return XF_OK;
  if (index >= reader->buffers.n) return fail(reader, "a tensor's buffer is not there");
  return read_buffer(reader, xf_fb_table_at(fb, reader->buffers, (size_t)index), out);
}

static xf_status read_tensors(struct reader *reader, xf_fb_at subgraph)
{
  struct xf_tflite *out = reader->out;
  struct xf_fb_vector list = xf_fb_vector(&out->fb, subgraph, TENSORS, 4);
  out->tensors = xf_alloc(list.n, sizeof *out->tensors);
  if (!out->tensors) return xf_file_no_memory(reader->error, out->path);
  out->n_tensors = list.n;
  for (size_t i = 0; i < list.n; i++) {
    xf_fb_at table = xf_fb_table_at(&out->fb, list, i);
    xf_status status = read_tensor(reader, table, &out->tensors[i]);
    if (status) return status;
  }
  return XF_OK;
}

static bool known(const struct xf_tflite *tflite, int32_t tensor)
{
  return tensor >= 0 && (size_t)tensor < tflite->n_tensors;
}

/* Every tensor that the operator reads has been made, and those that it makes have not been read:
 * whoever follows producers comes to an end. */
static xf_status link_op(struct reader *reader, const struct xf_tflite_op *op, int index,
                         bool *read)
{
  struct xf_tflite *out = reader->out;
  for (size_t i = 0; i < op->inputs.n; i++) {
    int32_t tensor = xf_fb_i32_at(&out->fb, op->inputs, i);
    if (tensor != -1 && !known(out, tensor))
      return fail(reader, "an operator reads a tensor that is not there");
    if (tensor >= 0) read[tensor] = true;
  }
  for (size_t i = 0; i < op->outputs.n; i++) {
    int32_t tensor = xf_fb_i32_at(&out->fb, op->outputs, i);
    if (!known(out, tensor)) return fail(reader, "an operator makes a tensor that is not there");
    if (read[tensor] || out->tensors[tensor].producer >= 0)
      return fail(reader, "its operators are not in the order in which they can run");
    out->tensors[tensor].producer = index;
  }
  return XF_OK;
}

static xf_status read_op(struct reader *reader, xf_fb_at table, struct xf_tflite_op *op)
{
  struct xf_flatbuffer *fb = &reader->out->fb;
  uint64_t index = xf_fb_unsigned(fb, table, CODE_INDEX, 4, 0);
  if (index >= reader->codes.n) return fail(reader, "an operator's code is not there");
  xf_fb_at code = xf_fb_table_at(fb, reader->codes, (size_t)index);
  int old = (int)xf_fb_unsigned(fb, code, DEPRECATED_CODE, 1, 0),
      wide = xf_fb_i32(fb, code, CODE, 0);
  *op = (struct xf_tflite_op){.code = wide > old ? wide : old,
                              .inputs = xf_fb_vector(fb, table, INPUTS, sizeof(int32_t)),
                              .outputs = xf_fb_vector(fb, table, OUTPUTS, sizeof(int32_t)),
                              .options = xf_fb_table(fb, table, OPTIONS),
                              .options_2 = xf_fb_table(fb, table, OPTIONS_2)};
  if (op->inputs.n > OP_TENSORS_MOST || op->outputs.n > OP_TENSORS_MOST)
    return fail(reader, "an operator has more tensors than any real one");
  return XF_OK;
}

static xf_status read_ops(struct reader *reader, xf_fb_at subgraph)
{
  struct xf_tflite *out = reader->out;
  struct xf_fb_vector list = xf_fb_vector(&out->fb, subgraph, OPERATORS, 4);
  bool *read = xf_alloc_zeroed(out->n_tensors, sizeof *read);
  out->ops = xf_alloc(list.n, sizeof *out->ops);
  xf_status status = XF_OK;
  if (!out->ops || !read) status = xf_file_no_memory(reader->error, out->path);
  for (size_t i = 0; i < list.n && !status; i++) {
    status = read_op(reader, xf_fb_table_at(&out->fb, list, i), &out->ops[i]);
    if (!status) status = link_op(reader, &out->ops[i], (int)i, read);
    out->n_ops = i + 1;
  }
  xf_free(read);
  return status;
}

/* The subgraph of "decode", which adds one token. */
static xf_status find_decode(struct reader *reader, xf_fb_at *subgraph)
{
  struct xf_tflite *out = reader->out;
  struct xf_flatbuffer *fb = &out->fb;
  struct xf_fb_vector list = xf_fb_vector(fb, reader->model, SIGNATURES, 4);
  struct xf_fb_vector graphs = xf_fb_vector(fb, reader->model, SUBGRAPHS, 4);
  for (size_t i = 0; i < list.n; i++) {
    xf_fb_at signature = xf_fb_table_at(fb, list, i);
    const char *key = xf_fb_string(fb, signature, KEY);
    if (!key || strcmp(key, "decode") != 0) continue;
    uint64_t index = xf_fb_unsigned(fb, signature, SUBGRAPH, 4, 0);
    if (index >= graphs.n) return fail(reader, "the graph of its signature decode is not there");
    out->signature = signature;
    *subgraph = xf_fb_table_at(fb, graphs, (size_t)index);
    return XF_OK;
  }
  if (fb->damaged) return fail(reader, "its list of signatures is not in the file");
  return xf_fail(
      reader->error, XF_E_UNSUPPORTED,
      "%s: has no signature \"decode\": it is no language model of the kind that LiteRT's "
      "converters write",
      out->path);
}

static xf_status read_file(struct reader *reader)
{
  struct xf_tflite *out = reader->out;
  struct xf_flatbuffer *fb = &out->fb;
  xf_fb_at subgraph = 0;
  reader->model = xf_fb_root(fb, IDENTIFIER);
  if (!reader->model) return fail(reader, "it does not begin as a .tflite file");
  reader->codes = xf_fb_vector(fb, reader->model, OPERATOR_CODES, 4);
  reader->buffers = xf_fb_vector(fb, reader->model, BUFFERS, 4);
  xf_status status = find_decode(reader, &subgraph);
  if (!status) status = read_tensors(reader, subgraph);
  if (!status) status = read_ops(reader, subgraph);
  if (!status && fb->damaged) status = fail(reader, "a part of its graph is not in the file");
  return status;
}

xf_status xf_tflite_open(const char *path, struct xf_tflite *out, xf_error *error)
{
  *out = (struct xf_tflite){.path = xf_alloc(strlen(path) + 1, 1)};
  if (!out->path) return xf_file_no_memory(error, path);
  memcpy(out->path, path, strlen(path) + 1);
  struct reader reader = {.out = out, .error = error};
  xf_status status = xf_file_map(path, &out->file, error);
  if (!status) {
    out->fb = (struct xf_flatbuffer){out->file.data, out->file.bytes, false};
    status = read_file(&reader);
  }
  if (status) xf_tflite_close(out);
  return status;
}

void xf_tflite_close(struct xf_tflite *tflite)
{
  xf_file_unmap(&tflite->file);
  xf_free(tflite->tensors);
  xf_free(tflite->ops);
  xf_free(tflite->path);
  *tflite = (struct xf_tflite){0};
}

bool xf_tflite_is_path(const char *path)
{
  struct xf_file file;
  if (xf_path_is_folder(path)) return false;
  if (!xf_path_exists(path)) return xf_path_ends_in(path, ".tflite");
  if (xf_file_map(path, &file, NULL)) return false;
  bool is = file.bytes >= 8 && memcmp(file.data + 4, IDENTIFIER, 4) == 0;
  bool is_gguf = xf_gguf_begins(&file);
  xf_file_unmap(&file);
  return is || (!is_gguf && xf_path_ends_in(path, ".tflite"));
}

static int signature_tensor(struct xf_tflite *tflite, unsigned field, const char *name)
{
  struct xf_flatbuffer *fb = &tflite->fb;
  struct xf_fb_vector list = xf_fb_vector(fb, tflite->signature, field, 4);
  for (size_t i = 0; i < list.n; i++) {
    xf_fb_at entry = xf_fb_table_at(fb, list, i);
    const char *found = xf_fb_string(fb, entry, NAME);
    int32_t tensor = xf_fb_i32(fb, entry, TENSOR_INDEX, 0);
    if (found && strcmp(found, name) == 0) return known(tflite, tensor) ? tensor : -1;
  }
  return -1;
}

int xf_tflite_signature_input(struct xf_tflite *tflite, const char *name)
{
  return signature_tensor(tflite, SIGNATURE_INPUTS, name);
}

int xf_tflite_signature_output(struct xf_tflite *tflite, const char *name)
{
  return signature_tensor(tflite, SIGNATURE_OUTPUTS, name);
}

const unsigned char *xf_tflite_scales(struct xf_tflite *tflite, int tensor, size_t n)
{
  struct xf_flatbuffer *fb = &tflite->fb;
  xf_fb_at q = tflite->tensors[tensor].quantization;
  struct xf_fb_vector scales = xf_fb_vector(fb, q, SCALE, sizeof(float));
  struct xf_fb_vector zeros = xf_fb_vector(fb, q, ZERO_POINT, sizeof(int64_t));
  if (scales.n != n || zeros.n > n || xf_fb_i32(fb, q, DIMENSION, 0) != 0) return NULL;
  for (size_t i = 0; i < zeros.n * sizeof(int64_t); i++)
    if (fb->data[zeros.at + i]) return NULL;
  return fb->data + scales.at;
}

int xf_tflite_input(const struct xf_tflite *tflite, const struct xf_tflite_op *op, size_t i)
{
  return i < op->inputs.n ? xf_fb_i32_at(&tflite->fb, op->inputs, i) : -1;
}

int xf_tflite_output(const struct xf_tflite *tflite, const struct xf_tflite_op *op, size_t i)
{
  return i < op->outputs.n ? xf_fb_i32_at(&tflite->fb, op->outputs, i) : -1;
}
