#include "model/flatbuffer.h"

#include <string.h>

#include "model/file.h"

enum { OFFSET = 4, VTABLE_HEAD = 4 };

static bool inside(struct xf_flatbuffer *fb, size_t at, size_t bytes)
{
  bool good = at <= fb->bytes && bytes <= fb->bytes - at;
  fb->damaged |= !good;
  return good;
}

static uint32_t load_u32(const struct xf_flatbuffer *fb, size_t at)
{
  return (uint32_t)xf_load_le(fb->data + at, 4);
}

/* Where the offset at `at`, which lies inside, leads. */
static xf_fb_at follow(struct xf_flatbuffer *fb, size_t at)
{
  size_t to = at + load_u32(fb, at);
  return inside(fb, to, OFFSET) ? to : 0;
}

xf_fb_at xf_fb_root(struct xf_flatbuffer *fb, const char *identifier)
{
  if (!inside(fb, 0, 2 * OFFSET) || memcmp(fb->data + OFFSET, identifier, OFFSET) != 0) return 0;
  return follow(fb, 0);
}

xf_fb_at xf_fb_field(struct xf_flatbuffer *fb, xf_fb_at table, unsigned field, size_t bytes)
{
  if (table == 0) return 0;
  int64_t vtable = (int64_t)table - (int32_t)load_u32(fb, table);
  if (vtable < 0 || !inside(fb, (size_t)vtable, VTABLE_HEAD)) {
    fb->damaged = true;
    return 0;
  }
  size_t size = (size_t)xf_load_le(fb->data + vtable, 2), slot = VTABLE_HEAD + 2 * (size_t)field;
  if (slot + 2 > size) return 0;
  if (!inside(fb, (size_t)vtable, size)) return 0;
  size_t offset = (size_t)xf_load_le(fb->data + (size_t)vtable + slot, 2);
  return offset && inside(fb, table + offset, bytes) ? table + offset : 0;
}

uint64_t xf_fb_unsigned(struct xf_flatbuffer *fb, xf_fb_at table, unsigned field, size_t bytes,
                        uint64_t otherwise)
{
  xf_fb_at at = xf_fb_field(fb, table, field, bytes);
  return at ? xf_load_le(fb->data + at, bytes) : otherwise;
}

int32_t xf_fb_i32(struct xf_flatbuffer *fb, xf_fb_at table, unsigned field, int32_t otherwise)
{
  return (int32_t)xf_fb_unsigned(fb, table, field, sizeof otherwise, (uint32_t)otherwise);
}

xf_fb_at xf_fb_table(struct xf_flatbuffer *fb, xf_fb_at table, unsigned field)
{
  xf_fb_at at = xf_fb_field(fb, table, field, OFFSET);
  return at ? follow(fb, at) : 0;
}

struct xf_fb_vector xf_fb_vector(struct xf_flatbuffer *fb, xf_fb_at table, unsigned field,
                                 size_t element)
{
  xf_fb_at at = xf_fb_table(fb, table, field);
  if (!at) return (struct xf_fb_vector){0};
  size_t n = load_u32(fb, at);
  if (!inside(fb, at + OFFSET, n * element)) return (struct xf_fb_vector){0};
  return (struct xf_fb_vector){at + OFFSET, n};
}

const char *xf_fb_string(struct xf_flatbuffer *fb, xf_fb_at table, unsigned field)
{
  struct xf_fb_vector text = xf_fb_vector(fb, table, field, 1);
  if (!text.at || !inside(fb, text.at, text.n + 1) || fb->data[text.at + text.n]) return NULL;
  return (const char *)fb->data + text.at;
}

xf_fb_at xf_fb_table_at(struct xf_flatbuffer *fb, struct xf_fb_vector vector, size_t i)
{
  return follow(fb, vector.at + i * OFFSET);
}

int32_t xf_fb_i32_at(const struct xf_flatbuffer *fb, struct xf_fb_vector vector, size_t i)
{
  return (int32_t)load_u32(fb, vector.at + i * sizeof(int32_t));
}
