#include "model/packed.h"

#include <stdio.h>

#include "dispatch/error.h"
#include "dispatch/memory.h"
#include "dispatch/quant.h"
#include "model/ggml_type.h"

static const char *const VERSION_KEY = "exactflash.packed.version";
static const char *const PARTS_KEY = "exactflash.packed.parts";
enum { VERSION = 1, OF_LAYER = 4, NUMBERS = 2 * XF_LINEAR_PARTS };

/* A layer's products by their first matrix, in the order of the file; the head follows them. */
static const struct {
  enum xf_role role;
  const char *name;
} products[] = {{XF_Q, "qkv"}, {XF_O, "o"}, {XF_GATE, "gate_up"}, {XF_DOWN, "down"}};

static size_t index_of(const struct xf_gguf_value *parts, enum xf_role role, size_t layer)
{
  size_t i = 0;
  if (role == XF_HEAD) return parts->n / NUMBERS - 1;
  while (products[i].role != role) i++;
  return layer * OF_LAYER + i;
}

static void name_of(enum xf_role role, size_t layer, char name[static XF_MAX_NAME])
{
  size_t i = 0;
  snprintf(name, XF_MAX_NAME, "head.panels");
  if (role == XF_HEAD) return;
  while (products[i].role != role) i++;
  snprintf(name, XF_MAX_NAME, "blk.%zu.%s.panels", layer, products[i].name);
}

/* ---- reading ---- */

xf_status xf_packed_parts(const struct xf_checkpoint *checkpoint, const struct xf_config *config,
                          const struct xf_gguf_value **parts, xf_error *error)
{
  const struct xf_gguf *gguf = xf_checkpoint_gguf(checkpoint);
  const struct xf_gguf_value *version = gguf ? xf_gguf_find(gguf, VERSION_KEY) : NULL;
  const char *place = xf_checkpoint_place(checkpoint);
  *parts = NULL;
  if (!version) return XF_OK;
  if (version->is_array || version->type != XF_GGUF_U32 ||
      xf_gguf_integer_at(version, 0) != VERSION)
    return xf_fail(error, XF_E_UNSUPPORTED,
                   "%s: %s is not %d: pack the file that it was made of with this program", place,
                   VERSION_KEY, VERSION);
  *parts = xf_gguf_find(gguf, PARTS_KEY);
  size_t wanted = (OF_LAYER * config->layers + 1) * NUMBERS;
  if (!*parts || !(*parts)->is_array || (*parts)->type != XF_GGUF_U32 || (*parts)->n != wanted)
    return xf_fail(error, XF_E_FORMAT, "%s: key %s must be an array of %zu u32", place, PARTS_KEY,
                   wanted);
  return XF_OK;
}

/* The parts as matrices without data; their number, 0 where one cannot be. */
static size_t read_parts(const struct xf_gguf_value *parts, size_t index, size_t n, size_t k,
                         struct xf_matrix out[static XF_LINEAR_PARTS])
{
  size_t count = 0, columns = 0;
  for (; count < XF_LINEAR_PARTS; count++) {
    size_t at = index * NUMBERS + 2 * count;
    xf_type type = (xf_type)xf_gguf_integer_at(parts, at);
    size_t part = (size_t)xf_gguf_integer_at(parts, at + 1);
    if (part == 0) break;
    if (type != XF_F32 && type != XF_F16 && type != XF_BF16 && !xf_is_quant(type)) return 0;
    out[count] = (struct xf_matrix){.type = type, .n = part, .k = k};
    columns += part;
  }
  return columns == n ? count : 0;
}

xf_status xf_packed_map(const struct xf_checkpoint *checkpoint, const struct xf_gguf_value *parts,
                        enum xf_role first, size_t layer, size_t n, size_t k, struct xf_linear *out,
                        xf_error *error)
{
  char name[XF_MAX_NAME];
  struct xf_matrix shapes[XF_LINEAR_PARTS];
  name_of(first, layer, name);
  const struct xf_tensor *tensor = xf_checkpoint_find(checkpoint, name);
  const char *place = xf_checkpoint_place(checkpoint);
  if (!tensor)
    return xf_fail(error, XF_E_FORMAT, "%s: the checkpoint has no tensor %s", place, name);
  size_t count = read_parts(parts, index_of(parts, first, layer), n, k, shapes);
  if (!count)
    return xf_fail(error, XF_E_FORMAT,
                   "%s: %s does not say of which types the %zu columns of %s are", place, PARTS_KEY,
                   n, name);
  xf_error inner;
  if (xf_linear_map(shapes, count, tensor->data, tensor->bytes, out, &inner) == XF_OK) return XF_OK;
  return xf_fail(error, inner.status, "%s: tensor %s: %s", place, name, inner.message);
}

/* ---- writing ---- */

/* A tensor. */
struct piece {
  char name[XF_MAX_NAME];
  const struct xf_ggml_type *type;
  size_t rank, shape[2];
  const void *data;
  size_t bytes;
};

/* What is done with each of them. */
struct visit {
  struct xf_gguf_writer *writer;
  bool data; /* give it; else add the tensor */
  xf_error *error;
};

static xf_status give(const struct visit *v, const struct piece *piece)
{
  if (v->data) return xf_gguf_writer_data(v->writer, piece->data, piece->bytes, v->error);
  xf_gguf_add_tensor(v->writer, piece->name, piece->type, piece->rank, piece->shape);
  return XF_OK;
}

static xf_status give_vector(const struct visit *v, enum xf_role role, size_t layer,
                             const char *suffix, size_t n, const void *x)
{
  struct piece piece = {.type = xf_ggml_type_of(XF_F32),
                        .rank = 1,
                        .shape = {n},
                        .data = x,
                        .bytes = n * sizeof(float)};
  xf_tensor_name(&xf_naming_gguf, role, layer, suffix, piece.name);
  return give(v, &piece);
}

static xf_status give_panels(const struct visit *v, enum xf_role role, size_t layer,
                             const struct xf_linear *linear)
{
  size_t bytes = xf_linear_bytes(linear);
  struct piece piece = {.type = xf_ggml_type_of(XF_I8),
                        .rank = 1,
                        .shape = {bytes},
                        .data = linear->panels,
                        .bytes = bytes};
  name_of(role, layer, piece.name);
  return give(v, &piece);
}

static xf_status give_embedding(const struct visit *v, const struct xf_matrix *e)
{
  struct piece piece = {.type = xf_ggml_type_of(e->type),
                        .rank = 2,
                        .shape = {e->n, e->k},
                        .data = e->data,
                        .bytes = e->n * xf_matrix_row_bytes(e)};
  xf_tensor_name(&xf_naming_gguf, XF_EMBEDDING, 0, ".weight", piece.name);
  xf_status status = give(v, &piece);
  if (!e->scales || status) return status;
  return give_vector(v, XF_EMBEDDING, 0, ".scale", e->n, e->scales);
}

static xf_status give_layer(const struct visit *v, const struct xf_weights *weights, size_t i)
{
  const struct xf_layer *layer = &weights->layers[i];
  size_t hidden = weights->head.k;
  xf_status status = give_vector(v, XF_ATTENTION_NORM, i, ".weight", hidden, layer->attention_norm);
  if (!status) status = give_panels(v, XF_Q, i, &layer->qkv);
  if (!status) status = give_panels(v, XF_O, i, &layer->o);
  if (!status) status = give_vector(v, XF_MLP_NORM, i, ".weight", hidden, layer->mlp_norm);
  if (!status) status = give_panels(v, XF_GATE, i, &layer->gate_up);
  if (!status) status = give_panels(v, XF_DOWN, i, &layer->down);
  return status;
}

static xf_status give_all(const struct visit *v, const struct xf_weights *weights)
{
  xf_status status = give_embedding(v, &weights->embedding);
  for (size_t i = 0; i < weights->n_layers && !status; i++) status = give_layer(v, weights, i);
  if (!status) status = give_vector(v, XF_FINAL_NORM, 0, ".weight", weights->head.k, weights->norm);
  return status ? status : give_panels(v, XF_HEAD, 0, &weights->head);
}

static void put_parts(const struct xf_linear *linear, uint32_t numbers[static NUMBERS])
{
  for (size_t i = 0; i < linear->n_parts; i++) {
    numbers[2 * i] = (uint32_t)linear->parts[i].type;
    numbers[2 * i + 1] = linear->parts[i].n;
  }
}

xf_status xf_packed_add(const struct xf_weights *weights, const struct xf_config *config,
                        struct xf_gguf_writer *writer, xf_error *error)
{
  size_t n = OF_LAYER * weights->n_layers + 1;
  uint32_t *numbers = xf_alloc_zeroed(n * NUMBERS, sizeof *numbers), *next = numbers;
  if (!numbers) return xf_fail(error, XF_E_MEMORY, "out of memory for a packed file's metadata");
  for (size_t i = 0; i < weights->n_layers; i++, next += OF_LAYER * NUMBERS) {
    const struct xf_layer *layer = &weights->layers[i];
    put_parts(&layer->qkv, next);
    put_parts(&layer->o, next + NUMBERS);
    put_parts(&layer->gate_up, next + 2 * NUMBERS);
    put_parts(&layer->down, next + 3 * NUMBERS);
  }
  put_parts(&weights->head, next);
  xf_gguf_writer_align(writer, XF_QUANT_ALIGN);
  xf_gguf_add_u32(writer, VERSION_KEY, VERSION);
  xf_gguf_add_bool(writer, XF_GGUF_TIED_KEY, config->tied);
  xf_gguf_add_array(writer, PARTS_KEY, XF_GGUF_U32, numbers, n * NUMBERS);
  xf_free(numbers);
  return give_all(&(struct visit){writer, false, error}, weights);
}

xf_status xf_packed_write(const struct xf_weights *weights, struct xf_gguf_writer *writer,
                          xf_error *error)
{
  return give_all(&(struct visit){writer, true, error}, weights);
}
