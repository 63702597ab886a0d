#include "model/tflite_llama.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "dispatch/error.h"
#include "dispatch/memory.h"
#include "model/config.h"
#include "model/tflite_graph.h"

static const char ATTENTION[] = "odml.scaled_dot_product_attention", NORM[] = "odml.rms_norm";

struct walk {
  struct xf_tflite *t;
  struct xf_tflite_llama *out;
  xf_error *error;
  size_t layer; /* from the last: 0 */
  char place[48];
  int mask; /* the last one that was found to be causal; −1: none yet */
};

static xf_status unlike(const struct walk *w, const char *what)
{
  return xf_fail(
      w->error, XF_E_UNSUPPORTED,
      "%s: its graph is not that of a Llama as LiteRT's converters write it: %s: %s; use "
      "the checkpoint that it was made of",
      w->t->path, w->place, what);
}

static struct xf_tflite_part whole(const struct walk *w, int tensor)
{
  size_t rows = w->t->tensors[tensor].shape[0];
  return (struct xf_tflite_part){tensor, 0, rows, rows, 1};
}

/* RMSNorm of *x; its epsilon is that of all. */
static xf_status take_norm(const struct walk *w, int tensor, struct xf_tflite_part *part, int *x)
{
  const struct xf_tflite_op *op;
  struct xf_flex_number epsilon = {.name = "epsilon"};
  xf_status status = xf_graph_composite(w->t, tensor, NORM, &epsilon, 1, &op, w->error);
  if (status == XF_E_SHAPE) return unlike(w, "odml.rms_norm is not where a Llama has it");
  if (status) return status;
  int weights = xf_graph_constant(w->t, xf_tflite_input(w->t, op, 1));
  *x = xf_graph_plain(w->t, xf_tflite_input(w->t, op, 0));
  if (weights < 0 || *x < 0 || w->t->tensors[weights].rank != 1)
    return unlike(w, "a norm without constant weights");
  if (!epsilon.found || !(epsilon.value >= 0 && epsilon.value < 1) ||
      (w->out->epsilon >= 0 && epsilon.value != w->out->epsilon))
    return unlike(w, "the norms' epsilons are not one number in 0 … 1");
  w->out->epsilon = epsilon.value;
  *part = whole(w, weights);
  return XF_OK;
}

/* ADD of *residual and a linear layer of *x. */
static xf_status take_branch(const struct walk *w, int tensor, struct xf_tflite_part *part, int *x,
                             int *residual)
{
  int terms[2], weights;
  if (!xf_graph_pair(w->t, tensor, XF_TFLITE_ADD, terms))
    return unlike(w, "no sum of a residual and a branch");
  for (int i = 0; i < 2; i++) {
    if (!xf_graph_linear(w->t, terms[i], x, &weights)) continue;
    *part = whole(w, weights);
    *residual = xf_graph_plain(w->t, terms[1 - i]);
    return XF_OK;
  }
  return unlike(w, "a branch does not end in a linear layer without bias");
}

/* silu(gate) · up, both of *x. */
static xf_status take_gated(const struct walk *w, int tensor, struct xf_tflite_part *parts, int *x)
{
  int factors[2], silu[2], up_x, gate, up;
  bool found = xf_graph_pair(w->t, tensor, XF_TFLITE_MUL, factors);
  for (int i = 0; i < 2 && found; i++) {
    if (!xf_graph_linear(w->t, factors[i], &up_x, &up) ||
        !xf_graph_pair(w->t, factors[1 - i], XF_TFLITE_MUL, silu))
      continue;
    for (int j = 0; j < 2; j++) {
      const struct xf_tflite_op *op = xf_graph_op(w->t, silu[j], XF_TFLITE_LOGISTIC);
      int plain = xf_graph_plain(w->t, silu[1 - j]);
      if (!op || xf_graph_plain(w->t, xf_tflite_input(w->t, op, 0)) != plain ||
          !xf_graph_linear(w->t, plain, x, &gate) || *x != up_x)
        continue;
      parts[XF_GATE] = whole(w, gate);
      parts[XF_UP] = whole(w, up);
      return XF_OK;
    }
  }
  return unlike(w, "no silu(gate) · up");
}

/* One of q, k and v: all rows of a linear layer of *x, or some of them. */
static xf_status take_projection(const struct walk *w, int tensor, size_t rows,
                                 struct xf_tflite_part *part, int *x)
{
  struct xf_graph_slice slice;
  int from, weights;
  tensor = xf_graph_turned(w->t, tensor);
  bool cut = xf_graph_slice(w->t, tensor, &from, &slice);
  if (cut) tensor = xf_graph_turned(w->t, from);
  if (!xf_graph_linear(w->t, tensor, x, &weights))
    return unlike(w, "q, k or v is not of a linear layer without bias");
  size_t all = w->t->tensors[weights].shape[0];
  if (!cut) slice = (struct xf_graph_slice){0, all, all, 1};
  if (slice.groups * slice.run != rows || slice.groups * slice.pitch != all)
    return unlike(w, "q, k or v has not as many rows as its heads need");
  *part = (struct xf_tflite_part){weights, slice.first, slice.run, slice.pitch, slice.groups};
  return XF_OK;
}

static xf_status take_rotated(const struct walk *w, int tensor, size_t rows,
                              struct xf_tflite_part *part, int *x)
{
  int unrotated, inv_freq;
  if (!xf_graph_rope(w->t, xf_graph_turned(w->t, tensor), &unrotated, &inv_freq))
    return unlike(w, "q or k is not rotated in halves by positions · constant frequencies");
  if (w->out->inv_freq >= 0 && w->out->inv_freq != inv_freq)
    return unlike(w, "layers have frequencies of their own");
  w->out->inv_freq = inv_freq;
  return take_projection(w, unrotated, rows, part, x);
}

/* What is stored into a cache that the caller gives; *placed becomes false where that is not at the
 * token's position. */
static int stored(const struct walk *w, int tensor, bool *placed)
{
  const struct xf_tflite_op *op = xf_graph_op(w->t, tensor, XF_TFLITE_DYNAMIC_UPDATE_SLICE);
  int cache = op ? xf_tflite_input(w->t, op, 0) : -1;
  if (cache < 0 || w->t->tensors[cache].producer >= 0 || w->t->tensors[cache].data) return -1;
  *placed = *placed && xf_graph_is_place(w->t, xf_tflite_input(w->t, op, 2));
  return xf_tflite_input(w->t, op, 1);
}

/* The shapes q [1, 1, heads, d] and k, v [1, cache, kv_heads, d] are those of all layers. */
static bool take_heads(const struct walk *w, const int inputs[3])
{
  struct xf_tflite_llama *out = w->out;
  const size_t *shapes[3];
  for (int i = 0; i < 3; i++) {
    if (inputs[i] < 0 || w->t->tensors[inputs[i]].rank != 4) return false;
    shapes[i] = w->t->tensors[inputs[i]].shape;
  }
  const size_t *q = shapes[0], *k = shapes[1];
  if (memcmp(k, shapes[2], 4 * sizeof *k) != 0 || q[0] != 1 || q[1] != 1 || k[0] != 1 ||
      q[3] != k[3])
    return false;
  if (w->layer == 0) {
    out->heads = q[2];
    out->kv_heads = k[2];
    out->head_dim = q[3];
    out->cache_len = k[1];
  }
  return out->heads == q[2] && out->kv_heads == k[2] && out->head_dim == q[3] &&
         out->cache_len == k[1] && q[2] >= 1 && q[2] <= XF_MAX_HEADS && k[2] >= 1 && k[2] <= q[2] &&
         q[3] <= XF_MAX_HEAD_DIM;
}

static xf_status take_attention(struct walk *w, int tensor, struct xf_tflite_part *parts, int *x)
{
  const struct xf_tflite_op *op;
  struct xf_flex_number scale = {.name = "scale"};
  xf_status status = xf_graph_composite(w->t, tensor, ATTENTION, &scale, 1, &op, w->error);
  if (status == XF_E_SHAPE)
    return unlike(w, "odml.scaled_dot_product_attention is not where a Llama has it");
  if (status) return status;
  int inputs[3], of[3], mask = xf_tflite_input(w->t, op, 3);
  for (size_t i = 0; i < 3; i++) inputs[i] = xf_tflite_input(w->t, op, i);
  if (!take_heads(w, inputs)) return unlike(w, "the shapes of q, k and v");
  size_t d = w->out->head_dim, q = w->out->heads * d, kv = w->out->kv_heads * d;
  if (!scale.found || !(fabs(scale.value * sqrt((double)d) - 1) < 1e-5))
    return unlike(w, "the attention's scale is not 1 / sqrt(head_dim)");
  if (mask < 0 || (mask != w->mask && !xf_graph_causal(w->t, mask, w->out->cache_len)))
    return unlike(w, "the mask is neither causal by a table or a comparison, nor an input");
  w->mask = mask;
  bool placed = true;
  int k = stored(w, inputs[1], &placed), v = stored(w, inputs[2], &placed);
  if (k < 0 || v < 0) return unlike(w, "k or v is not stored in a cache of the signature");
  if (!placed) return unlike(w, "k or v is not stored at its position, input_pos, in the cache");
  status = take_rotated(w, inputs[0], q, &parts[XF_Q], &of[0]);
  if (!status) status = take_rotated(w, k, kv, &parts[XF_K], &of[1]);
  if (!status) status = take_projection(w, v, kv, &parts[XF_V], &of[2]);
  if (status) return status;
  *x = of[0];
  return of[1] == *x && of[2] == *x ? XF_OK : unlike(w, "q, k and v are not of one input");
}

/* The layer that makes *x, which becomes what it is made of. */
static xf_status take_layer(struct walk *w, struct xf_tflite_part *parts, int *x)
{
  int gated = -1, attended = -1, normed = -1, middle = -1, below = -1, from = -1;
  xf_status status = take_branch(w, *x, &parts[XF_DOWN], &gated, &middle);
  if (!status) status = take_gated(w, gated, parts, &normed);
  if (!status) status = take_norm(w, normed, &parts[XF_MLP_NORM], &from);
  if (!status && from != middle) status = unlike(w, "the feed-forward part is not of its residual");
  if (!status) status = take_branch(w, middle, &parts[XF_O], &attended, &below);
  if (!status) status = take_attention(w, attended, parts, &normed);
  if (!status) status = take_norm(w, normed, &parts[XF_ATTENTION_NORM], &from);
  if (!status && from != below) status = unlike(w, "the attention is not of its residual");
  *x = below;
  return status;
}

/* As many as the graph has attentions, at most. */
static size_t count_layers(struct xf_tflite *t)
{
  size_t n = 0;
  for (size_t i = 0; i < t->n_ops; i++) n += t->ops[i].code == XF_TFLITE_COMPOSITE;
  return xf_min(n, XF_MAX_LAYERS);
}

static void turn_layers(struct xf_tflite_llama *out)
{
  struct xf_tflite_part swap[XF_ROLES];
  for (size_t i = 0; i < out->n_layers / 2; i++) {
    struct xf_tflite_part(*other)[XF_ROLES] = &out->layers[out->n_layers - 1 - i];
    memcpy(swap, out->layers[i], sizeof swap);
    memcpy(out->layers[i], *other, sizeof swap);
    memcpy(*other, swap, sizeof swap);
  }
}

/* Rows of the embedding by the signature's tokens. */
static xf_status take_embedding(const struct walk *w, int x)
{
  const struct xf_tflite_op *op = xf_graph_op(w->t, x, XF_TFLITE_EMBEDDING_LOOKUP);
  int ids = op ? xf_graph_plain(w->t, xf_tflite_input(w->t, op, 0)) : -1;
  int weights = op ? xf_graph_constant(w->t, xf_tflite_input(w->t, op, 1)) : -1;
  if (ids < 0 || ids != xf_tflite_signature_input(w->t, "tokens") || weights < 0 ||
      w->t->tensors[weights].rank != 2)
    return unlike(w, "the first layer is not of rows of an embedding");
  w->out->outside[XF_EMBEDDING] = whole(w, weights);
  return XF_OK;
}

static xf_status take_all(struct walk *w)
{
  struct xf_tflite_llama *out = w->out;
  int logits = xf_tflite_signature_output(w->t, "logits"), x, head;
  if (logits < 0 || !xf_graph_linear(w->t, logits, &x, &head))
    return unlike(w, "the signature decode has no output logits of a linear layer");
  out->outside[XF_HEAD] = whole(w, head);
  xf_status status = take_norm(w, x, &out->outside[XF_FINAL_NORM], &x);
  size_t most = count_layers(w->t);
  out->layers = xf_alloc_zeroed(most, sizeof *out->layers);
  if (!out->layers) return xf_file_no_memory(w->error, w->t->path);
  while (!status && !xf_graph_op(w->t, x, XF_TFLITE_EMBEDDING_LOOKUP)) {
    snprintf(w->place, sizeof w->place, "layer %zu, counted from the last", w->layer + 1);
    if (w->layer == most) return unlike(w, "there is no embedding");
    status = take_layer(w, out->layers[w->layer], &x);
    out->n_layers = ++w->layer;
  }
  if (status) return status;
  if (out->n_layers == 0) return unlike(w, "there are no layers");
  turn_layers(out);
  return take_embedding(w, x);
}

xf_status xf_tflite_llama_read(struct xf_tflite *tflite, struct xf_tflite_llama *out,
                               xf_error *error)
{
  *out = (struct xf_tflite_llama){.epsilon = -1, .inv_freq = -1};
  struct walk walk = {.t = tflite, .out = out, .error = error, .place = "its end", .mask = -1};
  xf_status status = take_all(&walk);
  if (!status && tflite->fb.damaged)
    status = xf_fail(error, XF_E_FORMAT,
                     "%s: a part of its graph is not in the file; is it cut off?", tflite->path);
  if (status) xf_tflite_llama_free(out);
  return status;
}

void xf_tflite_llama_free(struct xf_tflite_llama *llama)
{
  xf_free(llama->layers);
  *llama = (struct xf_tflite_llama){0};
}
