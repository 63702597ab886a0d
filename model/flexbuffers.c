#include "model/flexbuffers.h"

#include <string.h>

#include "dispatch/error.h"
#include "model/file.h"

/* A value's packed type: the kind, and log2 of the width of what it refers to. */
enum kind {
  INT = 1,
  UINT = 2,
  FLOAT = 3,
  INDIRECT_INT = 6,
  INDIRECT_UINT = 7,
  INDIRECT_FLOAT = 8,
  MAP = 9,
  BOOL = 26
};

/* Offsets are from the beginning of the buffer; everything has been found to lie inside. */
struct map {
  const unsigned char *data;
  size_t bytes;
  size_t values, n, width; /* n elements of that width, then their n packed types */
  size_t keys, key_width;  /* n offsets to texts */
};

static bool inside(const struct map *map, size_t at, size_t bytes)
{
  return at <= map->bytes && bytes <= map->bytes - at;
}

/* Follows the offset at `at`, which leads backwards. */
static bool follow(const struct map *map, size_t at, size_t width, size_t *to)
{
  if (!inside(map, at, width)) return false;
  uint64_t back = xf_load_le(map->data + at, width);
  if (back > at) return false;
  *to = at - (size_t)back;
  return true;
}

static bool open_map(const unsigned char *data, size_t bytes, struct map *map)
{
  *map = (struct map){.data = data, .bytes = bytes};
  if (bytes < 3) return false;
  size_t root_width = data[bytes - 1], packed = data[bytes - 2];
  if (root_width > 8 || (root_width & (root_width - 1)) || root_width > bytes - 2) return false;
  if (root_width == 0 || packed >> 2 != MAP) return false;
  map->width = (size_t)1 << (packed & 3);
  if (!follow(map, bytes - 2 - root_width, root_width, &map->values)) return false;
  size_t head = 3 * map->width;
  if (map->values < head) return false;
  uint64_t n = xf_load_le(data + map->values - map->width, map->width);
  uint64_t key_width = xf_load_le(data + map->values - 2 * map->width, map->width);
  if (n > bytes || !inside(map, map->values, (size_t)n * (map->width + 1))) return false;
  if (key_width == 0 || key_width > 8 || (key_width & (key_width - 1))) return false;
  map->n = (size_t)n;
  map->key_width = (size_t)key_width;
  return follow(map, map->values - head, map->width, &map->keys) &&
         inside(map, map->keys, map->n * map->key_width);
}

/* The name of element i, which a NUL ends inside the buffer. */
static const char *key_at(const struct map *map, size_t i)
{
  size_t at;
  if (!follow(map, map->keys + i * map->key_width, map->key_width, &at)) return NULL;
  const char *text = (const char *)map->data + at;
  return memchr(text, '\0', map->bytes - at) ? text : NULL;
}

static bool load_float(const unsigned char *p, size_t width, double *out)
{
  float narrow;
  if (width == sizeof *out) {
    memcpy(out, p, sizeof *out);
  } else if (width == sizeof narrow) {
    memcpy(&narrow, p, sizeof narrow);
    *out = (double)narrow;
  } else {
    return false;
  }
  return true;
}

static bool number_at(const struct map *map, size_t i, double *out)
{
  size_t packed = map->data[map->values + map->n * map->width + i];
  size_t at = map->values + i * map->width, width = map->width;
  enum kind kind = (enum kind)(packed >> 2);
  if (kind >= INDIRECT_INT && kind <= INDIRECT_FLOAT) {
    if (!follow(map, at, width, &at)) return false;
    width = (size_t)1 << (packed & 3);
    if (!inside(map, at, width)) return false;
    kind = (enum kind)(kind - INDIRECT_INT + INT);
  }
  if (kind == FLOAT) return load_float(map->data + at, width, out);
  uint64_t bits = xf_load_le(map->data + at, width);
  size_t unused = 64 - 8 * width;
  if (kind == INT)
    *out = (double)((int64_t)(bits << unused) >> unused);
  else
    *out = (double)bits;
  return kind == INT || kind == UINT || kind == BOOL;
}

xf_status xf_flex_read_numbers(const char *what, const unsigned char *data, size_t bytes,
                               struct xf_flex_number *wanted, size_t n, xf_error *error)
{
  struct map map;
  if (bytes == 0) return XF_OK;
  if (!open_map(data, bytes, &map))
    return xf_fail(error, XF_E_FORMAT, "%s: the attributes are no FlexBuffers map", what);
  for (size_t i = 0; i < map.n; i++) {
    const char *key = key_at(&map, i);
    if (!key) return xf_fail(error, XF_E_FORMAT, "%s: an attribute's name is missing", what);
    size_t w = 0;
    while (w < n && strcmp(wanted[w].name, key) != 0) w++;
    if (w == n)
      return xf_fail(error, XF_E_UNSUPPORTED, "%s: the attribute %.40s is not supported", what,
                     key);
    if (!number_at(&map, i, &wanted[w].value))
      return xf_fail(error, XF_E_FORMAT, "%s: the attribute %s is no number", what, key);
    wanted[w].found = true;
  }
  return XF_OK;
}
