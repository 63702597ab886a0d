/* A checkpoint's tensors into one GGUF file, a batch of rows at a time. */
#include "exactflash/convert.h"

#include <string.h>
#include <sys/stat.h>

#include "dispatch/context.h"
#include "dispatch/error.h"
#include "dispatch/memory.h"
#include "dispatch/options.h"
#include "dispatch/quant.h"
#include "dispatch/quantize.h"
#include "dispatch/widen.h"
#include "model/convert.h"
#include "model/packed.h"
#include "model/plan.h"
#include "model/source.h"
#include "model/tflite.h"

enum { BATCH_BYTES = 1 << 20 };

struct converter {
  const xf_context *context;
  const char *path;
  xf_convert_options options;
  struct xf_config config;
  struct xf_checkpoint *checkpoint;
  struct xf_gguf_writer *writer;
  struct xf_weights weights; /* to be packed; else empty */
  size_t done, total;        /* tensors */
  xf_error *error;
};

/* One of the checkpoint's tensors, and what becomes of it. */
struct item {
  enum xf_role role;
  size_t layer, n, k;    /* k 0: a vector */
  struct xf_source from; /* of a vector: the tensor alone, */
  xf_type from_type;     /* and its type */
  xf_type type;          /* of the file; the checkpoint's: nothing is computed */
  size_t row_bytes;
};

int xf_convert_supports(xf_type type)
{
  return xf_can_quantize(type);
}

/* ---- the items ---- */

/* The type that was asked for, or one that rows of k can have. */
static xf_type type_of(const struct converter *c, const struct item *item)
{
  if (item->k == 0) return XF_F32;
  xf_type type = c->options.type ? c->options.type : item->from_type;
  if (type == item->from_type) return type;
  bool fits = type != XF_I8_ROW || item->k <= XF_QUANT_ROW_MAX;
  if (fits && xf_type_row_bytes(type, item->k)) return type;
  return xf_type_row_bytes(XF_Q8_0, item->k) ? XF_Q8_0 : XF_F16;
}

static xf_status get_item(const struct converter *c, enum xf_role role, size_t layer,
                          struct item *out)
{
  char name[XF_MAX_NAME];
  xf_status status;
  size_t shape[2];
  xf_tensor_shape(&c->config, role, shape);
  *out = (struct item){.role = role, .layer = layer, .n = shape[0], .k = shape[1]};
  xf_tensor_name(xf_checkpoint_naming(c->checkpoint), role, layer, ".weight", name);
  if (out->k)
    status = xf_source_get(c->checkpoint, role, layer, out->n, out->k, &out->from, c->error);
  else
    status = xf_checkpoint_get(c->checkpoint, name, out->n, 0, &out->from.tensor, c->error);
  if (status) return status;
  out->from_type = out->k ? out->from.matrix.type : out->from.tensor->type;
  out->type = type_of(c, out);
  out->row_bytes = xf_type_row_bytes(out->type, out->k ? out->k : out->n);
  return XF_OK;
}

/* Calls visit for every tensor, in the order of the file. */
static xf_status each_item(struct converter *c,
                           xf_status (*visit)(struct converter *c, const struct item *item))
{
  xf_status status = XF_OK;
  struct item item;
  for (size_t layer = 0; layer <= c->config.layers && !status; layer++) {
    bool outside = layer == c->config.layers;
    enum xf_role role = outside ? 0 : XF_ATTENTION_NORM,
                 end = outside ? XF_ATTENTION_NORM : XF_ROLES;
    for (; role < end && !status; role++) {
      if (role == XF_HEAD && c->config.tied) continue;
      status = get_item(c, role, layer, &item);
      if (!status) status = visit(c, &item);
    }
  }
  return status;
}

/* Packed files have no matrices to read. */
static xf_status open_checkpoint(struct converter *c)
{
  const struct xf_gguf_value *parts;
  xf_status status = xf_checkpoint_open(c->path, &c->config, &c->checkpoint, c->error);
  if (!status) status = xf_source_expect_layers(c->checkpoint, c->config.layers, c->error);
  if (!status) status = xf_packed_parts(c->checkpoint, &c->config, &parts, c->error);
  if (status || !parts) return status;
  return xf_fail(c->error, XF_E_UNSUPPORTED,
                 "%s: is a packed file; convert the one that it was made of", c->path);
}

/* All of the model as memory has it, from a checkpoint of its own: its list of tensors is lost. */
static xf_status load_weights(struct converter *c)
{
  struct xf_checkpoint *checkpoint;
  xf_status status = xf_checkpoint_open(c->path, NULL, &checkpoint, c->error);
  if (status) return status;
  return xf_weights_load(c->context, &c->config, checkpoint, c->options.progress,
                         c->options.progress_arg, &c->weights, c->error);
}

xf_status xf_checkpoint_describe(const char *path, xf_checkpoint_info *out, xf_error *error)
{
  struct converter c = {.path = path, .error = error};
  struct item q;
  if (!path || !out)
    return xf_fail(error, XF_E_ARGUMENT, "xf_checkpoint_describe: path or out is NULL");
  xf_status status = open_checkpoint(&c);
  if (!status) status = get_item(&c, XF_Q, 0, &q);
  if (!status) *out = (xf_checkpoint_info){q.from_type, (uint32_t)c.config.max_positions};
  xf_checkpoint_close(c.checkpoint);
  return status;
}

/* ---- the head of the file ---- */

static xf_status add_tensor(struct converter *c, const struct item *item)
{
  char name[XF_MAX_NAME];
  const size_t shape[] = {item->n, item->k};
  xf_tensor_name(&xf_naming_gguf, item->role, item->layer, ".weight", name);
  xf_gguf_add_tensor(c->writer, name, xf_ggml_type_of(item->type), item->k ? 2 : 1, shape);
  c->total++;
  if (item->type != XF_I8_ROW) return XF_OK;
  xf_tensor_name(&xf_naming_gguf, item->role, item->layer, ".scale", name);
  xf_gguf_add_tensor(c->writer, name, xf_ggml_type_of(XF_F32), 1, &item->n);
  return XF_OK;
}

/* Divisors of RoPE's frequencies, of a GGUF file or for readers that know no llama3 scaling. */
static bool has_factors(const struct converter *c)
{
  return c->config.rope.type == XF_ROPE_FACTORS || c->config.rope.type == XF_ROPE_LLAMA3;
}

static xf_status write_factors(struct converter *c)
{
  size_t n = c->config.head_dim / 2;
  float factors[XF_MAX_HEAD_DIM / 2], plain[XF_MAX_HEAD_DIM / 2];
  const char *name = xf_checkpoint_naming(c->checkpoint)->rope_factors;
  const struct xf_tensor *from = NULL;
  if (name && xf_checkpoint_find(c->checkpoint, name)) {
    xf_status status = xf_checkpoint_get(c->checkpoint, name, n, 0, &from, c->error);
    if (status) return status;
    xf_widen(c->context->kernels, from->type, n, from->data, factors);
  } else {
    struct xf_config unscaled = c->config;
    unscaled.rope.type = XF_ROPE_NONE;
    xf_rope_inv_freq(&unscaled, plain);
    xf_rope_inv_freq(&c->config, factors);
    for (size_t i = 0; i < n; i++) factors[i] = plain[i] / factors[i];
  }
  return xf_gguf_writer_data(c->writer, factors, n * sizeof *factors, c->error);
}

static xf_status add_head(struct converter *c)
{
  struct item embedding;
  xf_status status = get_item(c, XF_EMBEDDING, 0, &embedding);
  if (status) return status;
  struct xf_converted converted = {
      .path = c->path, .config = &c->config, .plan = &c->options.plan, .type = embedding.type};
  status = xf_convert_metadata(&converted, c->writer, c->error);
  if (!status && has_factors(c)) {
    size_t n = c->config.head_dim / 2;
    xf_gguf_add_tensor(c->writer, xf_naming_gguf.rope_factors, xf_ggml_type_of(XF_F32), 1, &n);
  }
  if (status) return status;
  return c->options.packed ? xf_packed_add(&c->weights, &c->config, c->writer, c->error)
                           : each_item(c, add_tensor);
}

/* ---- data ---- */

static xf_status report(const struct converter *c)
{
  const xf_convert_options *o = &c->options;
  if (!o->progress || !o->progress(o->progress_arg, "convert", c->done, c->total)) return XF_OK;
  return xf_fail(c->error, XF_E_CANCELLED, "%s: the conversion was cancelled", c->path);
}

/* Rows [first, first + rows) of a matrix on their way. */
struct batch {
  const struct converter *c;
  const struct item *item;
  size_t first, rows;
  float *floats;        /* (threads, k) */
  unsigned char *out;   /* (rows, row_bytes) */
  unsigned char *fault; /* (rows): 1: a weight that the type does not have */
  float *scales;        /* (n) */
};

/* The checkpoint's row that is row r of the file: GGUF interleaves the halves of q's and k's heads.
 */
static size_t source_row(const struct converter *c, const struct item *item, size_t r)
{
  bool paired = xf_checkpoint_naming(c->checkpoint)->paired;
  size_t d = c->config.head_dim, i = r % d;
  if (!paired && (item->role == XF_Q || item->role == XF_K)) r = r - i + i / 2 + i % 2 * (d / 2);
  return r;
}

static void convert_row(void *arg, size_t slot, size_t i)
{
  struct batch *b = arg;
  const struct item *item = b->item;
  size_t k = item->k, row = b->first + i, from = source_row(b->c, item, row);
  unsigned char *out = b->out + i * item->row_bytes;
  b->fault[i] = 0;
  if (item->type == item->from_type) {
    memcpy(out, xf_matrix_row(&item->from.matrix, from, &b->scales[row]), item->row_bytes);
    return;
  }
  float *x = b->floats + slot * k;
  xf_matrix_widen(b->c->context->kernels, &item->from.matrix, from, x);
  b->fault[i] = !xf_quantize_row(item->type, k, x, out, &b->scales[row]);
}

static xf_status report_fault(const struct batch *b, size_t i)
{
  return xf_fail(b->c->error, XF_E_FORMAT,
                 "%s: tensor %s, row %zu of the file: a weight is not finite or too large for %s; "
                 "convert to another type, such as bf16",
                 b->item->from.tensor->path, b->item->from.tensor->name, b->first + i,
                 xf_type_name(b->item->type));
}

static xf_status write_batches(struct converter *c, struct batch *b, size_t most)
{
  const struct item *item = b->item;
  xf_status status = XF_OK;
  for (; b->first < item->n && !status; b->first += b->rows) {
    b->rows = xf_min(most, item->n - b->first);
    xf_parallel(c->context, b->rows, convert_row, b);
    for (size_t i = 0; i < b->rows && !status; i++)
      if (b->fault[i]) status = report_fault(b, i);
    if (!status)
      status = xf_gguf_writer_data(c->writer, b->out, b->rows * item->row_bytes, c->error);
    if (!status) status = report(c); /* a large tensor takes long, and may be cancelled */
  }
  if (!status && item->type == XF_I8_ROW)
    status = xf_gguf_writer_data(c->writer, b->scales, item->n * sizeof *b->scales, c->error);
  return status;
}

static xf_status write_matrix(struct converter *c, const struct item *item)
{
  size_t most = xf_min(item->n, BATCH_BYTES / item->row_bytes + 1);
  struct batch b = {.c = c,
                    .item = item,
                    .floats = xf_alloc(c->context->threads, item->k * sizeof(float)),
                    .out = xf_alloc(most, item->row_bytes),
                    .fault = xf_alloc(most, 1),
                    .scales = xf_alloc(item->n, sizeof(float))};
  xf_status status = XF_OK;
  if (!b.floats || !b.out || !b.fault || !b.scales)
    status = xf_fail(c->error, XF_E_MEMORY, "%s: out of memory for rows of %s", c->path,
                     item->from.tensor->name);
  else
    status = write_batches(c, &b, most);
  xf_free(b.floats);
  xf_free(b.out);
  xf_free(b.fault);
  xf_free(b.scales);
  return status;
}

static xf_status write_vector(struct converter *c, const struct item *item)
{
  float *x = xf_alloc(item->n, sizeof *x);
  if (!x) return xf_fail(c->error, XF_E_MEMORY, "%s: out of memory", c->path);
  xf_widen(c->context->kernels, item->from_type, item->n, item->from.tensor->data, x);
  xf_status status = xf_gguf_writer_data(c->writer, x, item->row_bytes, c->error);
  xf_free(x);
  return status;
}

static xf_status write_item(struct converter *c, const struct item *item)
{
  xf_status status = item->k ? write_matrix(c, item) : write_vector(c, item);
  xf_checkpoint_release(item->from.tensor);
  c->done++;
  return status ? status : report(c);
}

/* ---- all of it ---- */

static xf_status check_output(const struct converter *c, const char *output)
{
  struct stat there;
  if (stat(output, &there) != 0) return XF_OK;
  if (!S_ISREG(there.st_mode))
    return xf_fail(c->error, XF_E_FILE, "%s: is there already, and is no regular file", output);
  if (c->options.force) return XF_OK;
  return xf_fail(c->error, XF_E_FILE, "%s: is there already; choose another name, or force it",
                 output);
}

static xf_status convert(struct converter *c, const char *output)
{
  char fault[200];
  xf_status status = check_output(c, output);
  if (!status && xf_tflite_is_path(c->path))
    status = xf_fail(c->error, XF_E_UNSUPPORTED,
                     "%s: a .tflite file cannot be converted: convert the checkpoint that it was "
                     "made of",
                     c->path);
  if (!status) status = open_checkpoint(c);
  if (status) return status;
  if (xf_plan_fault(&c->options.plan, c->config.max_positions, fault, sizeof fault))
    return xf_fail(c->error, XF_E_ARGUMENT, "%s: the plan cannot be run: %s", c->path, fault);
  status = c->options.packed ? load_weights(c) : XF_OK;
  if (!status) status = xf_gguf_writer_create(&c->writer, c->error);
  if (!status) status = add_head(c);
  if (!status) status = report(c);
  if (!status) status = xf_gguf_writer_start(c->writer, output, c->error);
  if (!status && has_factors(c)) status = write_factors(c);
  if (!status)
    status = c->options.packed ? xf_packed_write(&c->weights, c->writer, c->error)
                               : each_item(c, write_item);
  return status ? status : xf_gguf_writer_finish(c->writer, c->error);
}

xf_status xf_convert(const xf_context *context, const char *path, const char *output,
                     const xf_convert_options *options, xf_error *error)
{
  struct converter c = {.context = context, .path = path, .error = error};
  if (!context || !path || !output)
    return xf_fail(error, XF_E_ARGUMENT, "xf_convert: context, path or output is NULL");
  xf_status status =
      xf_options_read("xf_convert_options", options, &c.options, sizeof c.options, error);
  if (!status && c.options.type && !xf_convert_supports(c.options.type))
    status = xf_fail(error, XF_E_UNSUPPORTED, "weights cannot be converted to %s",
                     xf_type_name(c.options.type));
  if (!status && c.options.type && c.options.packed) {
    status = check_output(&c, output);
    return status ? status : xf_convert_packed(context, path, output, &c.options, error);
  }
  xf_fp_state caller = xf_fp_enter();
  if (!status) status = convert(&c, output);
  xf_fp_leave(caller);
  xf_gguf_writer_destroy(c.writer);
  xf_weights_free(&c.weights);
  xf_checkpoint_close(c.checkpoint);
  return status;
}
