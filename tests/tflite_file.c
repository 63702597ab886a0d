#include "tests/tflite_file.h"

#include <stdlib.h>
#include <string.h>

#include "model/tflite.h"
#include "tests/flatbuffer_writer.h"
#include "tests/support.h"

size_t tflite_attributes(const char *attribute, float value, unsigned char out[static 64])
{
  size_t name = strlen(attribute) + 1, at = (name + 3) / 4 * 4;
  memset(out, 0, 64);
  memcpy(out, attribute, name);
  const uint32_t words[] = {1,                /* key vector: length */
                            (uint32_t)at + 4, /* its one offset, back to the name */
                            4,                /* map: how far back the keys are */
                            4,                /* bytes of the keys' offsets */
                            1,                /* length */
                            0};
  memcpy(out + at, words, sizeof words);
  memcpy(out + at + 20, &value, 4);
  at += 24;
  out[at++] = 3 << 2 | 2; /* the value's type: a float of 4 bytes */
  out[at++] = 5;          /* root: how far back the map is */
  out[at++] = 9 << 2 | 2; /* its type: a map of 4 bytes */
  out[at++] = 1;          /* the root's width */
  return at;
}

/* buffer: the number of the last constant; counts up. */
static void write_tensor(const struct tflite_file *f, struct fb_writer *w, size_t table,
                         const struct tflite_tensor *t, size_t *buffer)
{
  fb_vector(w, table, 0, t->shape, t->rank, sizeof *t->shape);
  fb_set(w, table, 1, (uint64_t)t->type, 1);
  if (t->data) fb_set(w, table, 2, ++*buffer, 4);
  if (t->type != XF_TFLITE_I8) return;
  size_t n = (size_t)t->shape[0], q = fb_table(w, table, 4, 7);
  fb_vector(w, q, 2, t->scales, n, sizeof *t->scales);
  size_t zeros = fb_vector(w, q, 3, NULL, n, 8);
  w->data[zeros] = (unsigned char)f->zero_point;
}

static void write_op(struct fb_writer *w, size_t table, const struct tflite_op *op, size_t code)
{
  unsigned char map[64];
  fb_set(w, table, 0, code, 4);
  fb_vector(w, table, 1, op->inputs, (size_t)op->n_inputs, 4);
  fb_vector(w, table, 2, &op->output, 1, 4);
  if (op->code == XF_TFLITE_CONCATENATION) fb_set(w, fb_table(w, table, 4, 2), 0, 3, 4);
  if (!op->composite) return;
  size_t options = fb_table(w, table, 12, 5);
  size_t bytes = tflite_attributes(op->attribute, op->value, map);
  fb_string(w, options, 0, op->composite);
  fb_vector(w, options, 2, map, bytes, 1);
}

static void write_signature(const struct tflite_file *f, struct fb_writer *w, size_t root)
{
  size_t list = fb_vector(w, root, 7, NULL, 1, 4), table = fb_element(w, list, 0, 5);
  const struct {
    const char *name;
    int tensor;
  } inputs[] = {{"tokens", f->tokens}, {"input_pos", f->input_pos}};
  size_t names = fb_vector(w, table, 0, NULL, 2, 4);
  for (size_t i = 0; i < 2; i++) {
    size_t entry = fb_element(w, names, i, 2);
    fb_string(w, entry, 0, inputs[i].name);
    fb_set(w, entry, 1, (uint64_t)inputs[i].tensor, 4);
  }
  size_t output = fb_element(w, fb_vector(w, table, 1, NULL, 1, 4), 0, 2);
  fb_string(w, output, 0, "logits");
  fb_set(w, output, 1, (uint64_t)f->logits, 4);
  fb_string(w, table, 2, f->signature);
}

/* Buffers of the constants, behind an empty one. */
static void write_buffers(const struct tflite_file *f, struct fb_writer *w, size_t root)
{
  size_t tables[TFLITE_TENSORS_MOST], n = 0;
  for (int i = 0; i < f->n_tensors; i++) n += f->tensors[i].data != NULL;
  size_t list = fb_vector(w, root, 4, NULL, n + 1, 4);
  fb_element(w, list, 0, 3);
  n = 0;
  for (int i = 0; i < f->n_tensors; i++) {
    if (!f->tensors[i].data) continue;
    tables[n] = fb_element(w, list, n + 1, 3);
    if (!f->outside) fb_vector(w, tables[n], 0, f->tensors[i].data, f->tensors[i].bytes, 1);
    n++;
  }
  n = 0;
  for (int i = 0; i < f->n_tensors && f->outside; i++) {
    if (!f->tensors[i].data) continue;
    fb_set(w, tables[n], 1, fb_bytes(w, f->tensors[i].data, f->tensors[i].bytes), 8);
    fb_set(w, tables[n++], 2, f->tensors[i].bytes, 8);
  }
}

void tflite_file_write(const struct tflite_file *f, const char *path)
{
  struct fb_writer w;
  size_t root = fb_start(&w, "TFL3", 8), ops = (size_t)f->n_ops, n = (size_t)f->n_tensors,
         buffer = 0;
  fb_set(&w, root, 0, 3, 4);
  size_t codes = fb_vector(&w, root, 1, NULL, ops, 4); /* one for each operator: simple */
  for (size_t i = 0; i < ops; i++) {
    size_t code = fb_element(&w, codes, i, 4);
    fb_set(&w, code, 0, (uint64_t)(f->ops[i].code < 127 ? f->ops[i].code : 127), 1);
    fb_set(&w, code, 3, (uint64_t)f->ops[i].code, 4);
  }
  size_t graph = fb_element(&w, fb_vector(&w, root, 2, NULL, 1, 4), 0, 5);
  size_t tensors = fb_vector(&w, graph, 0, NULL, n, 4);
  for (size_t i = 0; i < n; i++)
    write_tensor(f, &w, fb_element(&w, tensors, i, 8), &f->tensors[i], &buffer);
  size_t list = fb_vector(&w, graph, 3, NULL, ops, 4);
  for (size_t i = 0; i < ops; i++) write_op(&w, fb_element(&w, list, i, 13), &f->ops[i], i);
  write_signature(f, &w, root);
  write_buffers(f, &w, root);
  write_file(path, w.data, w.n);
  free(w.data);
}
