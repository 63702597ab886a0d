/* Reading FlatBuffers that may hold anything: every access is checked against the buffer's end, and
 * what is not inside reads as absent and leaves a mark. https://flatbuffers.dev/internals */
#ifndef XF_MODEL_FLATBUFFER_H
#define XF_MODEL_FLATBUFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct xf_flatbuffer {
  const unsigned char *data;
  size_t bytes;
  bool damaged; /* something that was read did not lie inside */
};

/* Positions of tables and of fields' values, from the beginning; 0: absent. */
typedef size_t xf_fb_at;

struct xf_fb_vector {
  xf_fb_at at; /* of the first element */
  size_t n;
};

/* The root table; 0 where the buffer is too short or has another identifier (four letters). */
xf_fb_at xf_fb_root(struct xf_flatbuffer *fb, const char *identifier);

/* A table's field, by the number of its declaration; 0 in a table of 0. */
xf_fb_at xf_fb_field(struct xf_flatbuffer *fb, xf_fb_at table, unsigned field, size_t bytes);
/* Integers of 1, 2, 4 or 8 bytes; `otherwise` where the field is absent. */
uint64_t xf_fb_unsigned(struct xf_flatbuffer *fb, xf_fb_at table, unsigned field, size_t bytes,
                        uint64_t otherwise);
int32_t xf_fb_i32(struct xf_flatbuffer *fb, xf_fb_at table, unsigned field, int32_t otherwise);
/* What a field refers to: a table; a vector whose elements are that large; a string. */
xf_fb_at xf_fb_table(struct xf_flatbuffer *fb, xf_fb_at table, unsigned field);
struct xf_fb_vector xf_fb_vector(struct xf_flatbuffer *fb, xf_fb_at table, unsigned field,
                                 size_t element);
/* NULL where there is none, or none that a NUL ends. */
const char *xf_fb_string(struct xf_flatbuffer *fb, xf_fb_at table, unsigned field);

/* Element i < n of a vector of tables, or of 32-bit integers. */
xf_fb_at xf_fb_table_at(struct xf_flatbuffer *fb, struct xf_fb_vector vector, size_t i);
int32_t xf_fb_i32_at(const struct xf_flatbuffer *fb, struct xf_fb_vector vector, size_t i);

#endif
