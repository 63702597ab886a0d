#include "tests/gguf_model.h"

#include <stdlib.h>
#include <string.h>

#include "tests/model_support.h"
#include "tests/support.h"

static void copy_data(const struct xf_gguf *source, struct xf_gguf_writer *writer,
                      const struct gguf_edit *edit)
{
  xf_error error = {0};
  for (size_t i = 0; i < source->n_tensors; i++) {
    const struct xf_tensor *t = &source->tensors[i];
    if (!edit->drop || strcmp(t->name, edit->drop) != 0)
      expect_ok(xf_gguf_writer_data(writer, t->data, t->bytes, &error), &error);
  }
  if (edit->vector)
    expect_ok(xf_gguf_writer_data(writer, edit->values, edit->n * sizeof *edit->values, &error),
              &error);
}

void gguf_copy(const char *from, const char *to, const struct gguf_edit *edit)
{
  static const struct gguf_edit none = {0};
  struct xf_gguf source;
  struct xf_gguf_writer *writer;
  xf_error error = {0};
  if (!edit) edit = &none;
  expect_ok(xf_gguf_open(from, &source, &error), &error);
  expect_ok(xf_gguf_writer_create(&writer, &error), &error);
  for (size_t i = 0; i < source.n_values; i++)
    if (!edit->drop || !xf_gguf_string_equal(source.values[i].key, edit->drop))
      xf_gguf_add_value(writer, &source.values[i]);
  if (edit->add) edit->add(writer, edit->arg);
  for (size_t i = 0; i < source.n_tensors; i++) {
    const struct xf_tensor *t = &source.tensors[i];
    if (!edit->drop || strcmp(t->name, edit->drop) != 0)
      xf_gguf_add_tensor(writer, t->name, xf_ggml_type_of(t->type), t->rank, t->shape);
  }
  if (edit->vector) xf_gguf_add_tensor(writer, edit->vector, xf_ggml_type_of(XF_F32), 1, &edit->n);
  expect_ok(xf_gguf_writer_start(writer, to, &error), &error);
  copy_data(&source, writer, edit);
  expect_ok(xf_gguf_writer_finish(writer, &error), &error);
  xf_gguf_writer_destroy(writer);
  xf_gguf_close(&source);
}
