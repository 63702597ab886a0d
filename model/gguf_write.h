/* Writes GGUF files, version 3: first what the file shall hold, then the tensors' data in the same
 * order, so that a model larger than memory can be written. The file has its name only once it is
 * whole. */
#ifndef XF_MODEL_GGUF_WRITE_H
#define XF_MODEL_GGUF_WRITE_H

#include "model/ggml_type.h"
#include "model/gguf.h"

struct xf_gguf_writer;

xf_status xf_gguf_writer_create(struct xf_gguf_writer **out, xf_error *error);
/* Removes what was written, unless it is finished. NULL is allowed. */
void xf_gguf_writer_destroy(struct xf_gguf_writer *writer);

/* Metadata, each key once. Having run out of memory is reported by xf_gguf_writer_start; a key,
 * string or name that the format does not allow, or one that is there twice, by
 * xf_gguf_writer_finish. */
void xf_gguf_add_bool(struct xf_gguf_writer *writer, const char *key, bool value);
void xf_gguf_add_u32(struct xf_gguf_writer *writer, const char *key, uint32_t value);
void xf_gguf_add_f32(struct xf_gguf_writer *writer, const char *key, float value);
void xf_gguf_add_string(struct xf_gguf_writer *writer, const char *key, const char *text);
/* values: [n] of a type that is neither STRING nor ARRAY. */
void xf_gguf_add_array(struct xf_gguf_writer *writer, const char *key, enum xf_gguf_type type,
                       const void *values, size_t n);
void xf_gguf_add_strings(struct xf_gguf_writer *writer, const char *key,
                         const struct xf_gguf_string *strings, size_t n);
/* A value that was read from another file. The key general.alignment is left out:
 * xf_gguf_writer_align. */
void xf_gguf_add_value(struct xf_gguf_writer *writer, const struct xf_gguf_value *value);

/* Tensors begin at multiples of it, in place of 32: a power of two ≤ 4096. Before the first tensor,
 * once. */
void xf_gguf_writer_align(struct xf_gguf_writer *writer, uint32_t alignment);

/* shape: [rank ≤ 4], outermost first; its last size holds whole blocks of the type. */
void xf_gguf_add_tensor(struct xf_gguf_writer *writer, const char *name,
                        const struct xf_ggml_type *type, size_t rank, const size_t *shape);

/* Writes everything but the data into a new file beside path. Nothing may be added any more. */
xf_status xf_gguf_writer_start(struct xf_gguf_writer *writer, const char *path, xf_error *error);
/* The next bytes of the next tensors, whole or in pieces; a piece ends with a tensor or in it. */
xf_status xf_gguf_writer_data(struct xf_gguf_writer *writer, const void *data, size_t bytes,
                              xf_error *error);
/* All data has been given: syncs the file to the disk and gives it its name, in place of a file
 * that had it. */
xf_status xf_gguf_writer_finish(struct xf_gguf_writer *writer, xf_error *error);

#endif
