#include "tests/host_attention.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void *new_array(size_t n, size_t size)
{
  void *p = calloc(n + 1, size);
  assert_non_null(p);
  return p;
}

size_t host_case_d(const struct host_case *c, int which)
{
  return which == 0 ? c->d_k : c->d_v;
}

float host_case_scale(const struct host_case *c)
{
  return c->scale != 0 ? c->scale : (float)(1 / sqrt((double)c->d_k));
}

/* ---- what a row sees ---- */

static int64_t position_of(const struct host_case *c, size_t b, size_t i)
{
  return c->q_first[b] + (int64_t)i;
}

static const float *mask_row(const struct host_case *c, size_t b, size_t i, size_t h)
{
  return c->mask ? c->mask + ((b * c->q_heads + h) * c->q_len + i) * c->keys : NULL;
}

bool host_case_sees(const struct host_case *c, size_t b, size_t i, size_t h, size_t key)
{
  int64_t position = position_of(c, b, i), distance = position - (int64_t)key;
  const float *mask = mask_row(c, b, i, h);
  if ((int64_t)key >= c->kv_lens[b] || (int64_t)i >= c->q_lens[b]) return false;
  if (c->causal && distance < 0) return false;
  if (c->window && (distance >= c->window || -distance >= c->window)) return false;
  return !mask || mask[key] != -INFINITY;
}

struct attention_row host_case_row(const struct host_case *c, size_t b, size_t i, size_t h)
{
  size_t head = h / (c->q_heads / c->kv_heads), row = b * c->keys * c->kv_heads + head;
  int64_t position = position_of(c, b, i), end = c->kv_lens[b], first = 0;
  if (c->causal && position + 1 < end) end = position + 1;
  if (c->window && position + c->window < end) end = position + c->window;
  if (c->window && position - c->window + 1 > 0) first = position - c->window + 1;
  if (first >= end) first = end = 0;
  return (struct attention_row){.d_k = c->d_k,
                                .d_v = c->d_v,
                                .n = (size_t)end,
                                .q = c->q + ((b * c->q_len + i) * c->q_heads + h) * c->d_k,
                                .k = c->wide[0] + row * c->d_k,
                                .v = c->wide[1] + row * c->d_v,
                                .ldk = c->kv_heads * c->d_k,
                                .ldv = c->kv_heads * c->d_v,
                                .c = fabsf(host_case_scale(c)) * 0x1.715476p+0f,
                                .first = (size_t)first,
                                .scale = host_case_scale(c),
                                .soft_cap = c->soft_cap,
                                .mask = mask_row(c, b, i, h),
                                .slope = c->slopes ? c->slopes + h : NULL,
                                .position = position,
                                .sink = c->sinks ? c->sinks + h : NULL};
}

/* ---- making one ---- */

static void random_element(struct rng *rng, xf_type type, unsigned char *at)
{
  float x = rng_normal(rng);
  uint16_t half = type == XF_BF16 ? to_bf16(x) : to_f16(x);
  if (type == XF_F32) memcpy(at, &x, sizeof x);
  if (type == XF_F16 || type == XF_BF16) memcpy(at, &half, sizeof half);
  if (type == XF_I8) *at = (unsigned char)rng_below(rng, 256);
}

static float wide_element(xf_type type, const unsigned char *at, float scale)
{
  float x;
  uint16_t half;
  memcpy(&half, at, type == XF_I8 ? 1 : sizeof half);
  switch (type) {
  case XF_F16: return from_f16(half);
  case XF_BF16: return from_bf16(half);
  case XF_I8: return (float)(signed char)*at * scale;
  default: memcpy(&x, at, sizeof x); return x;
  }
}

static void widen_row(struct host_case *c, int which, size_t row)
{
  size_t d = host_case_d(c, which), size = xf_type_size(c->types[which]);
  for (size_t i = row * d; i < (row + 1) * d; i++)
    c->wide[which][i] =
        wide_element(c->types[which], c->kv[which] + i * size, c->scales[which][row]);
}

void host_case_put(struct host_case *c, int which, size_t b, size_t key, size_t head, size_t d,
                   float value)
{
  size_t row = (b * c->keys + key) * c->kv_heads + head, n = host_case_d(c, which);
  xf_type type = c->types[which];
  uint16_t half = type == XF_BF16 ? to_bf16(value) : to_f16(value);
  for (size_t i = 0; i < n; i++) {
    unsigned char *at = c->kv[which] + (row * n + i) * xf_type_size(type);
    if (d != SIZE_MAX && d != i) continue;
    if (type == XF_F32) memcpy(at, &value, sizeof value);
    if (type == XF_F16 || type == XF_BF16) memcpy(at, &half, sizeof half);
    if (type == XF_I8) c->scales[which][row] = value;
  }
  widen_row(c, which, row);
}

static void random_kv(struct rng *rng, struct host_case *c, int which)
{
  static const xf_type types[] = {XF_F32, XF_F32, XF_F16, XF_BF16, XF_I8};
  size_t rows = c->batch * c->keys * c->kv_heads, d = host_case_d(c, which);
  bool same = which == 1 && rng_below(rng, 2);
  xf_type type = c->types[which] = same ? c->types[0] : types[rng_below(rng, 5)];
  size_t size = xf_type_size(type);
  c->kv[which] = new_array(rows * d, size);
  c->scales[which] = new_array(rows, sizeof(float));
  c->wide[which] = new_array(rows * d, sizeof(float));
  for (size_t row = 0; row < rows; row++) {
    bool copy = c->same_kv_heads && row % c->kv_heads > 0;
    unsigned char *at = c->kv[which] + row * d * size;
    c->scales[which][row] = copy ? c->scales[which][row - 1] : 0.02f * rng_uniform(rng);
    for (size_t i = 0; i < d && !copy; i++) random_element(rng, type, at + i * size);
    if (copy) memcpy(at, at - d * size, d * size);
    widen_row(c, which, row);
  }
}

static void random_mask(struct rng *rng, struct host_case *c)
{
  size_t shape[] = {c->batch, c->q_heads, c->q_len, c->keys}, index[4];
  size_t n = shape[0] * shape[1] * shape[2] * shape[3], hidden = rng_below(rng, 5);
  c->mask_type = rng_below(rng, 2) ? XF_F32 : XF_BOOL;
  c->mask_same = (unsigned)rng_below(rng, 16) & (unsigned)rng_below(rng, 16);
  c->mask = new_array(n, sizeof(float));
  for (size_t at = 0; at < n; at++) {
    size_t source = 0;
    for (size_t i = 4, rest = at; i-- > 0; rest /= shape[i]) index[i] = rest % shape[i];
    for (size_t i = 0; i < 4; i++)
      source = source * shape[i] + (c->mask_same >> i & 1 ? 0 : index[i]);
    float value = c->mask_type == XF_BOOL ? 0 : rng_normal(rng);
    if (rng_below(rng, 4) < hidden) value = -INFINITY;
    c->mask[at] = source < at ? c->mask[source] : value;
  }
}

static void random_options(struct rng *rng, struct host_case *c)
{
  c->causal = rng_below(rng, 2) ? 1 : 0;
  if (rng_below(rng, 4) > 0) c->scale = (1.5f + rng_uniform(rng)) / sqrtf((float)c->d_k);
  if (rng_below(rng, 5) == 0) c->scale = -c->scale;
  if (rng_below(rng, 4) == 0) c->soft_cap = 2 * (1.1f + rng_uniform(rng));
  if (rng_below(rng, 3) == 0)
    c->window = 1 + (int64_t)rng_below(rng, rng_below(rng, 2) ? 9 : c->keys + 1);
  if (rng_below(rng, 3) == 0) random_mask(rng, c);
  if (rng_below(rng, 4) == 0) {
    c->slopes = new_array(c->q_heads, sizeof(float));
    fill_normal(rng, c->q_heads, c->slopes);
  }
  if (rng_below(rng, 4) == 0) {
    c->sinks = new_array(c->q_heads, sizeof(float));
    fill_normal(rng, c->q_heads, c->sinks);
  }
}

static bool anyone_sees(const struct host_case *c, size_t b, size_t key, size_t head)
{
  size_t group = c->q_heads / c->kv_heads, h = head * group, end = h + group;
  if (c->same_kv_heads) h = 0, end = c->q_heads;
  for (; h < end; h++)
    for (size_t i = 0; i < c->q_len; i++)
      if (host_case_sees(c, b, i, h, key)) return true;
  return false;
}

static void spoil_unseen(struct host_case *c)
{
  for (size_t b = 0; b < c->batch; b++)
    for (size_t key = 0; key < c->keys; key++)
      for (size_t head = 0; head < c->kv_heads; head++) {
        if (anyone_sees(c, b, key, head)) continue;
        host_case_put(c, 0, b, key, head, SIZE_MAX, NAN);
        host_case_put(c, 1, b, key, head, SIZE_MAX, NAN);
      }
}

static void name_case(const struct host_case *c, uint64_t seed)
{
  this_case("seed %llu batch %zu q_len %zu (%lld at %lld …) keys %zu (%lld …) heads %zu/%zu d %zu "
            "%zu types %s %s scale %g cap %g causal %d window %lld mask %s/%x slopes %d sinks %d",
            (unsigned long long)seed, c->batch, c->q_len, (long long)c->q_lens[0],
            (long long)c->q_first[0], c->keys, (long long)c->kv_lens[0], c->q_heads, c->kv_heads,
            c->d_k, c->d_v, xf_type_name(c->types[0]), xf_type_name(c->types[1]), (double)c->scale,
            (double)c->soft_cap, c->causal, (long long)c->window,
            c->mask ? xf_type_name(c->mask_type) : "none", c->mask_same, c->slopes != NULL,
            c->sinks != NULL);
}

static void random_lengths(struct rng *rng, struct host_case *c, size_t most_keys)
{
  c->q_len = rng_below(rng, 3) ? 1 + rng_below(rng, 40) : rng_below(rng, 3);
  c->keys = rng_below(rng, most_keys + 1);
  for (size_t b = 0; b < c->batch; b++) {
    c->q_lens[b] = (int64_t)(rng_below(rng, 2) ? c->q_len : rng_below(rng, c->q_len + 1));
    c->kv_lens[b] = (int64_t)(rng_below(rng, 2) ? c->keys : rng_below(rng, c->keys + 1));
    c->q_first[b] = c->kv_lens[b] - c->q_lens[b];
    if (rng_below(rng, 3) == 0)
      c->q_first[b] = (int64_t)rng_below(rng, c->keys + 40) - (int64_t)rng_below(rng, 40);
  }
}

struct host_case host_case_random(struct rng *rng, size_t most_keys, size_t most_d)
{
  uint64_t seed = rng->state;
  struct host_case c = {.batch = 1 + rng_below(rng, HOST_SEQUENCES)};
  c.kv_heads = 1 + rng_below(rng, 4);
  c.q_heads = c.kv_heads * (1 + rng_below(rng, HOST_HEADS / 4));
  c.d_k = 1 + rng_below(rng, most_d), c.d_v = 1 + rng_below(rng, most_d);
  if (rng_below(rng, 4) == 0) c.d_v = (c.d_v + 15) / 16 * 16; /* V may be read in place */
  c.same_q_heads = rng_below(rng, 8) == 0, c.same_kv_heads = rng_below(rng, 8) == 0;
  random_lengths(rng, &c, most_keys);
  size_t n = c.batch * c.q_len * c.q_heads * c.d_k;
  c.q = new_array(n, sizeof(float));
  fill_normal(rng, n, c.q);
  for (size_t i = 0; i < n && c.same_q_heads; i++)
    c.q[i] = c.q[i - i % (c.q_heads * c.d_k) + i % c.d_k];
  random_kv(rng, &c, 0);
  random_kv(rng, &c, 1);
  random_options(rng, &c);
  spoil_unseen(&c);
  name_case(&c, seed);
  return c;
}

struct host_case host_case_part(const struct host_case *c, size_t b)
{
  struct host_case part = *c;
  size_t rows = b * c->keys * c->kv_heads;
  part.batch = 1;
  part.q_lens[0] = c->q_lens[b], part.q_first[0] = c->q_first[b], part.kv_lens[0] = c->kv_lens[b];
  part.q += b * c->q_len * c->q_heads * c->d_k;
  for (int which = 0; which < 2; which++) {
    size_t d = host_case_d(c, which);
    part.kv[which] += rows * d * xf_type_size(c->types[which]);
    part.scales[which] += rows;
    part.wide[which] += rows * d;
  }
  if (c->mask) part.mask += b * c->q_heads * c->q_len * c->keys;
  return part;
}

void host_case_free(struct host_case *c)
{
  free(c->q), free(c->mask), free(c->slopes), free(c->sinks);
  for (int which = 0; which < 2; which++)
    free(c->kv[which]), free(c->scales[which]), free(c->wide[which]);
}
