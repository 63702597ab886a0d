#include "tests/quants.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const xf_type quants_types[] = {XF_I8_ROW, XF_Q8_0, XF_Q4_0, XF_Q4_1, XF_Q5_0,
                                XF_Q5_1,   XF_Q4_K, XF_Q5_K, XF_Q6_K};
const size_t n_quants_types = sizeof quants_types / sizeof *quants_types;

/* A block: its weights, its bytes, and where its f16 scales lie (m: −1 where there is none). */
struct shape {
  size_t weights, bytes;
  int d, m;
};

static struct shape shape_of(xf_type type)
{
  switch (type) {
  case XF_Q8_0: return (struct shape){32, 34, 0, -1};
  case XF_Q4_0: return (struct shape){32, 18, 0, -1};
  case XF_Q4_1: return (struct shape){32, 20, 0, 2};
  case XF_Q5_0: return (struct shape){32, 22, 0, -1};
  case XF_Q5_1: return (struct shape){32, 24, 0, 2};
  case XF_Q4_K: return (struct shape){256, 144, 0, 2};
  case XF_Q5_K: return (struct shape){256, 176, 0, 2};
  case XF_Q6_K: return (struct shape){256, 210, 208, -1};
  default: return (struct shape){1, 1, -1, -1};
  }
}

size_t quants_block(xf_type type)
{
  return shape_of(type).weights;
}

/* ---- making them ---- */

static uint16_t random_half(struct rng *rng, bool special)
{
  static const uint16_t specials[] = {0x0000, 0x8000, 0x7C00, 0xFC00, 0x7E01,
                                      0x0001, 0x83FF, 0x7BFF, 0xFBFF};
  if (special && rng_below(rng, 3) == 0) return specials[rng_below(rng, 9)];
  return to_f16(0.05f * rng_normal(rng));
}

struct quants quants_new(struct rng *rng, xf_type type, size_t n, size_t k, bool special)
{
  struct shape shape = shape_of(type);
  struct quants q = {.type = type, .n = n, .k = k};
  q.row_bytes = k / shape.weights * shape.bytes;
  q.memory[0] = malloc(n * q.row_bytes + 1);
  q.memory[1] = malloc(n * sizeof(float) + 1);
  assert_true(q.memory[0] && q.memory[1] && k % shape.weights == 0);
  q.data = (unsigned char *)q.memory[0] + 1;
  for (size_t i = 0; i < n * q.row_bytes; i++) q.data[i] = (unsigned char)rng_next(rng);
  for (size_t at = 0; at < n * q.row_bytes && shape.d >= 0; at += shape.bytes) {
    uint16_t d = random_half(rng, special), m = random_half(rng, special);
    memcpy(q.data + at + shape.d, &d, sizeof d);
    if (shape.m >= 0) memcpy(q.data + at + shape.m, &m, sizeof m);
  }
  if (type != XF_I8_ROW) return q;
  q.scales = (float *)(void *)((char *)q.memory[1] + 1);
  for (size_t i = 0; i < n; i++) {
    float scale = from_f16(random_half(rng, special));
    memcpy((char *)q.scales + i * sizeof scale, &scale, sizeof scale);
  }
  return q;
}

/* What the scales are divided by: the deviation of u, times that of sub-scales, with the minima;
 * and the mean of u. */
static float deviation_of(xf_type type, float *mean)
{
  *mean = 0;
  switch (type) {
  case XF_Q4_0: return 4.6f;
  case XF_Q5_0: return 9.2f;
  case XF_Q4_1: *mean = 7.5f; return 4.6f;
  case XF_Q5_1: *mean = 15.5f; return 9.2f;
  case XF_Q4_K: *mean = -7.5f; return 260;
  case XF_Q5_K: *mean = -15.5f; return 530;
  case XF_Q6_K: return 1370;
  default: return 74;
  }
}

void quants_scale(struct quants *q, struct rng *rng, float deviation)
{
  struct shape shape = shape_of(q->type);
  float mean, unit = deviation / deviation_of(q->type, &mean);
  for (size_t at = 0; at < q->n * q->row_bytes && shape.d >= 0; at += shape.bytes) {
    float d = unit * (1 + 0.25f * rng_uniform(rng));
    uint16_t half = to_f16(d), min = to_f16(-mean * d);
    memcpy(q->data + at + shape.d, &half, sizeof half);
    if (shape.m >= 0) memcpy(q->data + at + shape.m, &min, sizeof min);
  }
  for (size_t i = 0; i < q->n && q->scales; i++) {
    float scale = unit * (1 + 0.25f * rng_uniform(rng));
    memcpy((char *)q->scales + i * sizeof scale, &scale, sizeof scale);
  }
}

void quants_spoil(struct quants *q, struct rng *rng)
{
  struct shape shape = shape_of(q->type);
  for (size_t i = 0; i < 3; i++) {
    uint16_t half = random_half(rng, true);
    float scale = from_f16(half);
    size_t blocks = q->n * q->row_bytes / shape.bytes, row = rng_below(rng, q->n);
    size_t at = rng_below(rng, blocks) * shape.bytes;
    if (shape.d >= 0) memcpy(q->data + at + shape.d, &half, sizeof half);
    if (q->scales) memcpy((char *)q->scales + row * sizeof scale, &scale, sizeof scale);
  }
}

void quants_free(struct quants *quants)
{
  free(quants->memory[0]);
  free(quants->memory[1]);
}

struct xf_matrix quants_matrix(const struct quants *q)
{
  return (struct xf_matrix){
      .data = q->data, .type = q->type, .n = q->n, .k = q->k, .scales = q->scales};
}

/* ---- reading one weight ---- */

/* scale · u: scale d · sc, less a minimum of dmin · mn, or and a minimum of m. */
struct weight {
  int u, sc, mn;
  float d, m;
};

/* Scale and minimum number j, of 6 bits each, of Q4_K and Q5_K. */
static void read_sub(const unsigned char *s, size_t j, struct weight *w)
{
  w->sc = j < 4 ? s[j] % 64 : s[j + 4] % 16 + s[j - 4] / 64 * 16;
  w->mn = j < 4 ? s[j + 4] % 64 : s[j + 4] / 16 + s[j] / 64 * 16;
}

/* Bits [at, at + n) of a row of bytes. */
static int bits_of(const unsigned char *bytes, size_t at, unsigned n)
{
  return bytes[at / 8] >> at % 8 & ((1 << n) - 1);
}

static int read_6_bits(const unsigned char *b, size_t i)
{
  size_t half = i / 128, in = i % 128;
  int low = bits_of(b + 64 * half + in % 64, in / 64 * 4, 4);
  return low + 16 * bits_of(b + 128 + 32 * half + in % 32, in / 32 * 2, 2);
}

static struct weight read_weight(const struct quants *q, size_t row, size_t i)
{
  struct shape shape = shape_of(q->type);
  const unsigned char *b = q->data + row * q->row_bytes + i / shape.weights * shape.bytes;
  struct weight w = {.sc = 1, .mn = 1};
  uint16_t half = 0;
  if (shape.d >= 0) memcpy(&half, b + shape.d, sizeof half);
  w.d = from_f16(half);
  if (shape.m >= 0) memcpy(&half, b + shape.m, sizeof half);
  w.m = shape.m >= 0 ? from_f16(half) : 0;
  i %= shape.weights;
  if (q->type == XF_Q4_K || q->type == XF_Q5_K) read_sub(b + 4, i / 32, &w);
  switch (q->type) {
  case XF_Q8_0: w.u = (signed char)b[2 + i]; break;
  case XF_Q4_0: w.u = bits_of(b + 2 + i % 16, i / 16 * 4, 4) - 8; break;
  case XF_Q4_1: w.u = bits_of(b + 4 + i % 16, i / 16 * 4, 4); break;
  case XF_Q5_0:
    w.u = bits_of(b + 6 + i % 16, i / 16 * 4, 4) + 16 * bits_of(b + 2, i, 1) - 16;
    break;
  case XF_Q5_1: w.u = bits_of(b + 8 + i % 16, i / 16 * 4, 4) + 16 * bits_of(b + 4, i, 1); break;
  case XF_Q4_K: w.u = bits_of(b + 16 + i / 64 * 32 + i % 32, i / 32 % 2 * 4, 4); break;
  case XF_Q5_K:
    w.u = bits_of(b + 48 + i / 64 * 32 + i % 32, i / 32 % 2 * 4, 4) +
          16 * bits_of(b + 16 + i % 32, i / 32, 1);
    break;
  case XF_Q6_K:
    w.u = read_6_bits(b, i) - 32;
    w.sc = (signed char)b[192 + i / 16];
    break;
  default:
    w.u = (signed char)b[0];
    memcpy(&w.d, (const char *)q->scales + row * sizeof w.d, sizeof w.d);
  }
  return w;
}

float quants_weight(const struct quants *q, size_t row, size_t i)
{
  struct weight w = read_weight(q, row, i);
  float scale = quants_block(q->type) == 256 ? w.d * (float)w.sc : w.d;
  float value = scale * (float)w.u;
  if (shape_of(q->type).m < 0) return value;
  float minimum = w.m * (float)w.mn;
  return quants_block(q->type) == 256 ? value - minimum : value + minimum;
}

/* ---- activations of 8 bits ---- */

/* A group's scale, and its numbers in q. */
static float quantize(size_t n, const float *x, int *q)
{
  float most = 0;
  bool finite = true;
  for (size_t i = 0; i < n; i++) {
    finite &= isfinite(x[i]) != 0;
    most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
  }
  float d = most / 127, inverse = 1 / d;
  bool zero = !finite || d < 0x1p-126f;
  for (size_t i = 0; i < n; i++) {
    float wide = x[i] * inverse;
    wide = wide > 127 ? 127 : wide < -127 ? -127 : wide;
    q[i] = zero ? 0 : (int)rintf(wide);
  }
  return !finite ? NAN : zero ? 0 : d;
}

float quants_dot(const struct quants *quants, size_t row, const float *x)
{
  bool k_block = quants_block(quants->type) == 256, has_min = shape_of(quants->type).m >= 0;
  size_t group = quants->type == XF_I8_ROW ? quants->k : quants_block(quants->type);
  int *q = malloc(group * sizeof *q);
  assert_non_null(q);
  float y = 0;
  for (size_t at = 0; at < quants->k; at += group) {
    float dx = quantize(group, x + at, q);
    int64_t products = 0, minima = 0;
    struct weight w = {0};
    for (size_t i = 0; i < group; i++) {
      w = read_weight(quants, row, at + i);
      products += (int64_t)w.sc * w.u * q[i];
      minima += (int64_t)w.mn * q[i];
    }
    if (quants->type == XF_I8_ROW)
      y = (float)products * (dx * w.d);
    else
      y = fmaf((float)products, dx * w.d, y);
    if (has_min && k_block) y = fmaf(-(float)minima, dx * w.m, y);
    if (has_min && !k_block) y = fmaf(w.m, dx * (float)minima, y);
  }
  free(q);
  return y;
}
