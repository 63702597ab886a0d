#include "cli/locate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/fnv1a.h"

enum { PER_LAYER = 12, OUTSIDE = 4 /* of operators */ };

static size_t n_orders(const struct xf_cli_record *r)
{
  return r->layers * PER_LAYER + OUTSIDE;
}

static size_t n_places(const struct xf_cli_record *r)
{
  return n_orders(r) * r->n_sequences * r->most;
}

bool xf_cli_record_begin(struct xf_cli_record *r)
{
  r->hashes = calloc(n_places(r), sizeof *r->hashes);
  return r->hashes != NULL;
}

void xf_cli_record_free(struct xf_cli_record *r)
{
  free(r->hashes);
  free(r->values);
}

/* A view's row, whose elements lie dense in groups of its last dimension. */
struct row {
  const char *data;
  size_t groups, group;
  int64_t stride; /* bytes between groups */
};

static struct row row_of(const xf_view *view, size_t dimension, size_t index)
{
  bool heads = view->rank == dimension + 3;
  size_t inner = view->rank - 1;
  return (struct row){(const char *)view->data + (int64_t)index * view->stride[dimension],
                      heads ? (size_t)view->shape[inner - 1] : 1, (size_t)view->shape[inner],
                      heads ? view->stride[inner - 1] : 0};
}

/* What the operator makes: *n views with rows along that dimension. */
static size_t outputs(const xf_operator *op, xf_view views[2], size_t *n)
{
  *n = 1;
  views[0] = op->y;
  if (op->kind == XF_OPERATOR_SILU_MUL) views[0] = op->x;
  if (op->kind == XF_OPERATOR_ROPE) {
    views[0] = op->x;
    views[1] = op->y;
    *n = 2;
  }
  if (op->kind != XF_OPERATOR_ATTENTION) return 0;
  views[0] = op->attention->out;
  return 1;
}

static void keep(struct xf_cli_record *r, const xf_operator *op, const struct row *rows, size_t n)
{
  size_t total = 0, at = 0;
  for (size_t i = 0; i < n; i++) total += rows[i].groups * rows[i].group;
  free(r->values);
  r->values = malloc(total * sizeof *r->values);
  r->n_values = r->values ? total : 0;
  for (size_t i = 0; r->values && i < n; i++)
    for (size_t g = 0; g < rows[i].groups; g++, at += rows[i].group)
      memcpy(r->values + at, rows[i].data + (int64_t)g * rows[i].stride,
             rows[i].group * sizeof *r->values);
  if (op->layer < 0)
    snprintf(r->name, sizeof r->name, "%s", op->tensor);
  else
    snprintf(r->name, sizeof r->name, "layer %d, %s", (int)op->layer, op->tensor);
}

static void record_row(struct xf_cli_record *r, const xf_operator *op, size_t index,
                       const struct row *rows, size_t n)
{
  size_t sequence = 0, position = (size_t)op->positions[index];
  while (sequence < r->n_sequences && r->caches[sequence] != op->caches[index]) sequence++;
  if (sequence == r->n_sequences || r->order >= n_orders(r) || position < r->first[sequence] ||
      position - r->first[sequence] >= r->most)
    return;
  uint64_t hash = XF_FNV1A_BEGIN;
  for (size_t i = 0; i < n; i++)
    for (size_t g = 0; g < rows[i].groups; g++)
      hash = xf_fnv1a(hash, rows[i].data + (int64_t)g * rows[i].stride, rows[i].group);
  size_t place = (r->order * r->n_sequences + sequence) * r->most + position - r->first[sequence];
  r->hashes[place] = hash ? hash : 1;
  if (r->keeps && r->kept.order == r->order && r->kept.sequence == sequence &&
      r->kept.position == position)
    keep(r, op, rows, n);
}

/* Numbers the operators of a pass; attention comes once for each sequence. */
static void number(struct xf_cli_record *r, const xf_operator *op)
{
  if (op->kind == XF_OPERATOR_EMBEDDING)
    r->order = 0;
  else if (op->kind != XF_OPERATOR_ATTENTION || op->tensor != r->last_tensor ||
           op->layer != r->last_layer)
    r->order++;
  r->last_tensor = op->tensor;
  r->last_layer = op->layer;
}

xf_status xf_cli_record_operator(void *record, const xf_operator *op, xf_error *error)
{
  struct xf_cli_record *r = record;
  xf_view views[2];
  size_t n;
  xf_status status = xf_operator_run(op, error);
  number(r, op);
  if (status || op->kind == XF_OPERATOR_KV_WRITE) return status;
  size_t dimension = outputs(op, views, &n);
  for (int64_t i = 0; i < views[0].shape[dimension]; i++) {
    struct row rows[2];
    for (size_t j = 0; j < n; j++) rows[j] = row_of(&views[j], dimension, (size_t)i);
    record_row(r, op, (size_t)i, rows, n);
  }
  return XF_OK;
}

bool xf_cli_records_part(const struct xf_cli_record *a, const struct xf_cli_record *b,
                         struct xf_cli_place *place)
{
  for (size_t i = 0; i < n_places(a); i++) {
    if (!a->hashes[i] || !b->hashes[i] || a->hashes[i] == b->hashes[i]) continue;
    size_t sequence = i / a->most % a->n_sequences;
    *place = (struct xf_cli_place){i / a->most / a->n_sequences, sequence,
                                   a->first[sequence] + i % a->most};
    return true;
  }
  return false;
}
