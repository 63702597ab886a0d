/* Writes FlatBuffers for tests: what is referred to is written behind what refers to it. */
#ifndef XF_TESTS_FLATBUFFER_WRITER_H
#define XF_TESTS_FLATBUFFER_WRITER_H

#include <stddef.h>
#include <stdint.h>

struct fb_writer {
  unsigned char *data; /* free() it */
  size_t n, capacity;
};

/* A buffer whose root table, with room for so many fields, is at the position that is returned. */
size_t fb_start(struct fb_writer *w, const char *identifier, size_t fields);
/* Appends bytes, aligned to 8 in the file; returns their position. */
size_t fb_bytes(struct fb_writer *w, const void *data, size_t bytes);

/* Sets a field to an integer of 1 to 8 bytes. */
void fb_set(struct fb_writer *w, size_t table, unsigned field, uint64_t value, size_t bytes);
/* New tables, vectors and strings that a field refers to; of a vector: the position of its
 * elements, zeros where data is NULL. */
size_t fb_table(struct fb_writer *w, size_t table, unsigned field, size_t fields);
size_t fb_vector(struct fb_writer *w, size_t table, unsigned field, const void *data, size_t n,
                 size_t element);
void fb_string(struct fb_writer *w, size_t table, unsigned field, const char *text);
/* A new table for element i of a vector of tables, which is at `elements`. */
size_t fb_element(struct fb_writer *w, size_t elements, size_t i, size_t fields);

#endif
