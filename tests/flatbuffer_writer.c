#include "tests/flatbuffer_writer.h"

#include <stdlib.h>
#include <string.h>

#include "tests/support.h"

static void put(struct fb_writer *w, size_t at, uint64_t value, size_t bytes)
{
  memcpy(w->data + at, &value, bytes);
}

/* Zeros, aligned to 8. */
static size_t grow(struct fb_writer *w, size_t bytes)
{
  size_t at = (w->n + 7) / 8 * 8, end = at + bytes;
  if (end > w->capacity) {
    w->capacity = 2 * end;
    w->data = realloc(w->data, w->capacity);
    assert_non_null(w->data);
  }
  memset(w->data + w->n, 0, end - w->n);
  w->n = end;
  return at;
}

size_t fb_bytes(struct fb_writer *w, const void *data, size_t bytes)
{
  size_t at = grow(w, bytes);
  if (data && bytes) memcpy(w->data + at, data, bytes);
  return at;
}

/* The vtable, then the offset to it and 8 bytes for each field. */
static size_t new_table(struct fb_writer *w, size_t fields)
{
  size_t vtable = grow(w, 4 + 2 * fields), at = grow(w, 8 + 8 * fields);
  put(w, vtable, 4 + 2 * fields, 2);
  put(w, vtable + 2, 8 + 8 * fields, 2);
  put(w, at, at - vtable, 4);
  return at;
}

/* Where the field's value is, which is there from now on. */
static size_t claim(struct fb_writer *w, size_t table, unsigned field)
{
  uint32_t back;
  memcpy(&back, w->data + table, sizeof back);
  size_t offset = 8 + 8 * (size_t)field;
  put(w, table - back + 4 + 2 * (size_t)field, offset, 2);
  return table + offset;
}

static void refer(struct fb_writer *w, size_t from, size_t to)
{
  put(w, from, to - from, 4);
}

size_t fb_start(struct fb_writer *w, const char *identifier, size_t fields)
{
  *w = (struct fb_writer){0};
  grow(w, 8);
  memcpy(w->data + 4, identifier, 4);
  size_t root = new_table(w, fields);
  refer(w, 0, root);
  return root;
}

void fb_set(struct fb_writer *w, size_t table, unsigned field, uint64_t value, size_t bytes)
{
  put(w, claim(w, table, field), value, bytes);
}

size_t fb_table(struct fb_writer *w, size_t table, unsigned field, size_t fields)
{
  size_t to = new_table(w, fields);
  refer(w, claim(w, table, field), to);
  return to;
}

size_t fb_vector(struct fb_writer *w, size_t table, unsigned field, const void *data, size_t n,
                 size_t element)
{
  size_t head = grow(w, 8) + 4; /* the elements are aligned to 8 */
  put(w, head, n, 4);
  refer(w, claim(w, table, field), head);
  return fb_bytes(w, data, n * element);
}

void fb_string(struct fb_writer *w, size_t table, unsigned field, const char *text)
{
  fb_vector(w, table, field, text, strlen(text), 1);
  grow(w, 1);
}

size_t fb_element(struct fb_writer *w, size_t elements, size_t i, size_t fields)
{
  size_t to = new_table(w, fields);
  refer(w, elements + 4 * i, to);
  return to;
}
