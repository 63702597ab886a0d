/* ggml's blocks, https://github.com/ggml-org/ggml/blob/master/src/ggml-common.h, and panels. */
#include "dispatch/quant.h"

#include <string.h>

#include "dispatch/memory.h"

enum { MOST_WEIGHTS = 256, MOST_SUBS = 16 };

/* One block of one row, whatever its type. */
struct block {
  uint8_t u[MOST_WEIGHTS];
  uint16_t d, m;         /* f16: scale, and scale of the minima or minimum */
  uint8_t sc[MOST_SUBS]; /* signed in Q6_K */
  uint8_t mn[MOST_SUBS];
};

/* ---- the file's blocks ---- */

/* Thirty-two weights whose low and high nibbles are the first and second half. */
static void take_nibbles(const unsigned char *from, uint8_t *u)
{
  for (size_t i = 0; i < 16; i++) u[i] = from[i] & 15;
  for (size_t i = 0; i < 16; i++) u[16 + i] = from[i] >> 4;
}

/* Their fifth bits. */
static void add_fifth_bits(const unsigned char *from, uint8_t *u)
{
  for (size_t i = 0; i < 32; i++) u[i] |= (uint8_t)((from[i / 8] >> i % 8 & 1) << 4);
}

/* Signed bytes. */
static void take_bytes(const unsigned char *from, size_t n, uint8_t *u)
{
  for (size_t i = 0; i < n; i++) u[i] = from[i] ^ 0x80;
}

static void take_q8_0(const unsigned char *from, struct block *block)
{
  memcpy(&block->d, from, 2);
  take_bytes(from + 2, 32, block->u);
}

static void take_q4_0(const unsigned char *from, struct block *block)
{
  memcpy(&block->d, from, 2);
  take_nibbles(from + 2, block->u);
}

static void take_q4_1(const unsigned char *from, struct block *block)
{
  memcpy(&block->d, from, 2);
  memcpy(&block->m, from + 2, 2);
  take_nibbles(from + 4, block->u);
}

static void take_q5_0(const unsigned char *from, struct block *block)
{
  memcpy(&block->d, from, 2);
  take_nibbles(from + 6, block->u);
  add_fifth_bits(from + 2, block->u);
}

static void take_q5_1(const unsigned char *from, struct block *block)
{
  memcpy(&block->d, from, 2);
  memcpy(&block->m, from + 2, 2);
  take_nibbles(from + 8, block->u);
  add_fifth_bits(from + 4, block->u);
}

/* d, dmin, and eight pairs of 6 bits in 12 bytes: four whole ones, then four whose upper two bits
 * lie above those. */
static void take_k_scales(const unsigned char *from, struct block *block)
{
  memcpy(&block->d, from, 2);
  memcpy(&block->m, from + 2, 2);
  const unsigned char *s = from + 4;
  for (size_t i = 0; i < 4; i++) {
    block->sc[i] = s[i] & 63;
    block->mn[i] = s[4 + i] & 63;
    block->sc[4 + i] = (uint8_t)((s[8 + i] & 15) | s[i] >> 6 << 4);
    block->mn[4 + i] = (uint8_t)(s[8 + i] >> 4 | s[4 + i] >> 6 << 4);
  }
}

/* Low nibbles are 32 weights, high nibbles the next 32. */
static void take_k_nibbles(const unsigned char *from, uint8_t *u)
{
  for (size_t pair = 0; pair < 4; pair++)
    for (size_t i = 0; i < 32; i++) {
      u[64 * pair + i] = from[32 * pair + i] & 15;
      u[64 * pair + 32 + i] = from[32 * pair + i] >> 4;
    }
}

static void take_q4_k(const unsigned char *from, struct block *block)
{
  take_k_scales(from, block);
  take_k_nibbles(from + 16, block->u);
}

/* Bit j of byte i is the fifth of weight 32j + i. */
static void take_q5_k(const unsigned char *from, struct block *block)
{
  take_k_scales(from, block);
  take_k_nibbles(from + 48, block->u);
  for (size_t j = 0; j < 8; j++)
    for (size_t i = 0; i < 32; i++) block->u[32 * j + i] |= (uint8_t)((from[16 + i] >> j & 1) << 4);
}

/* Each half has 64 bytes of nibbles, and 32 bytes with the upper two bits of weights i, 32 + i, 64
 * + i and 96 + i. */
static void take_q6_k(const unsigned char *from, struct block *block)
{
  for (size_t half = 0; half < 2; half++) {
    const unsigned char *low = from + 64 * half, *high = from + 128 + 32 * half;
    uint8_t *u = block->u + 128 * half;
    for (size_t i = 0; i < 64; i++) {
      u[i] = (uint8_t)((low[i] & 15) | (high[i % 32] >> i / 32 * 2 & 3) << 4);
      u[64 + i] = (uint8_t)(low[i] >> 4 | (high[i % 32] >> (4 + i / 32 * 2) & 3) << 4);
    }
  }
  memcpy(block->sc, from + 192, 16);
  memcpy(&block->d, from + 208, 2);
}

/* How a file has a type. */
struct source {
  size_t bytes; /* of a block */
  void (*take)(const unsigned char *from, struct block *block);
};

static struct source source_of(xf_type type)
{
  switch (type) {
  case XF_Q8_0: return (struct source){34, take_q8_0};
  case XF_Q4_0: return (struct source){18, take_q4_0};
  case XF_Q4_1: return (struct source){20, take_q4_1};
  case XF_Q5_0: return (struct source){22, take_q5_0};
  case XF_Q5_1: return (struct source){24, take_q5_1};
  case XF_Q4_K: return (struct source){144, take_q4_k};
  case XF_Q5_K: return (struct source){176, take_q5_k};
  case XF_Q6_K: return (struct source){210, take_q6_k};
  default: return (struct source){1, NULL}; /* I8_ROW: plain bytes */
  }
}

size_t xf_quant_block(xf_type type)
{
  size_t block = xf_quant_format_of(type).block;
  return block ? block : 1;
}

size_t xf_quant_row_bytes(xf_type type, size_t k)
{
  return k / xf_quant_block(type) * source_of(type).bytes;
}

size_t xf_type_row_bytes(xf_type type, size_t k)
{
  if (k % xf_quant_block(type) != 0 || k > SIZE_MAX / sizeof(float)) return 0;
  return xf_is_quant(type) ? xf_quant_row_bytes(type, k) : k * xf_type_size(type);
}

/* Weights [at, at + n) of a row, n the file's block; of I8_ROW n ≤ 256, and u is zero behind the
 * row's end. A column that does not exist has u = zero and scales 0. */
static void take_block(xf_type type, size_t k, struct xf_quant_row row, size_t at, size_t n,
                       struct block *block)
{
  struct source source = source_of(type);
  const unsigned char *from = row.data;
  if (from && source.take) {
    source.take(from + at / n * source.bytes, block);
    return;
  }
  *block = (struct block){0};
  memset(block->u, xf_quant_format_of(type).zero, n);
  if (from) take_bytes(from + at, xf_min(n, k - at), block->u);
}

/* ---- floats ---- */

/* Weights [0, n) of a block that belong to one sub-scale, or to the block's scale. */
static void widen_sub(struct xf_quant_format format, const uint8_t *u, size_t n, float scale,
                      float minimum, float *y)
{
  for (size_t i = 0; i < n; i++) {
    float value = scale * (float)(u[i] - format.zero);
    y[i] = format.has_min ? value + minimum : value;
  }
}

static void widen_block(const struct xf_kernels *kernels, xf_type type, const struct block *block,
                        float *y)
{
  struct xf_quant_format format = xf_quant_format_of(type);
  const uint16_t halves[] = {block->d, block->m};
  float scales[2];
  kernels->widen_f16(format.has_min ? 2 : 1, halves, scales);
  if (format.block < MOST_WEIGHTS) {
    widen_sub(format, block->u, format.block, scales[0], format.has_min ? scales[1] : 0, y);
    return;
  }
  for (size_t at = 0; at < format.block; at += format.sub) {
    size_t sub = at / format.sub;
    float sc = format.has_min ? block->sc[sub] : (int8_t)block->sc[sub];
    float minimum = format.has_min ? -(scales[1] * (float)block->mn[sub]) : 0;
    widen_sub(format, block->u + at, format.sub, scales[0] * sc, minimum, y + at);
  }
}

void xf_quant_widen(const struct xf_kernels *kernels, xf_type type, size_t k,
                    struct xf_quant_row row, float *y)
{
  struct xf_quant_format format = xf_quant_format_of(type);
  struct block block;
  if (format.block == 0) {
    const signed char *bytes = row.data;
    for (size_t i = 0; i < k; i++) y[i] = row.scale * (float)bytes[i];
    return;
  }
  for (size_t at = 0; at < k; at += format.block) {
    take_block(type, k, row, at, format.block, &block);
    widen_block(kernels, type, &block, y + at);
  }
}

/* ---- panels ---- */

/* u of four steps' numbers, one in each byte. */
static uint32_t four(const uint8_t *u, size_t step)
{
  uint32_t bytes;
  memcpy(&bytes, u + XF_QUANT_STEP * step, sizeof bytes);
  return bytes;
}

static void store_four(unsigned char *to, size_t index, uint32_t bytes)
{
  memcpy(to + 4 * index, &bytes, sizeof bytes);
}

/* One column of 32 weights. */
static void place_column(unsigned bits, const uint8_t *u, size_t lane, unsigned char *chunk)
{
  if (bits == 8) {
    for (size_t s = 0; s < 8; s++) store_four(chunk, s * XF_LANES + lane, four(u, s));
    return;
  }
  uint32_t nibbles = 0x0F0F0F0Fu, plane = bits == 5 ? 0x01010101u : 0x03030303u;
  for (size_t c = 0; c < 4; c++) {
    uint32_t low = four(u, 2 * c) & nibbles, high = four(u, 2 * c + 1) & nibbles;
    store_four(chunk, c * XF_LANES + lane, low | high << 4);
  }
  size_t width = bits - 4, steps = width ? 8 / width : 0; /* of a plane */
  for (size_t h = 0; h < width; h++) {
    uint32_t above = 0;
    for (size_t s = 0; s < steps; s++) above |= (four(u, h * steps + s) >> 4 & plane) << s * width;
    store_four(chunk, (4 + h) * XF_LANES + lane, above);
  }
}

static void place_record(xf_type type, const struct block *block, size_t lane,
                         unsigned char *record)
{
  struct xf_quant_format format = xf_quant_format_of(type);
  memcpy(record + 2 * lane, &block->d, 2);
  if (format.has_min) memcpy(record + 2 * (XF_LANES + lane), &block->m, 2);
  if (format.block < MOST_WEIGHTS) return;
  size_t subs = format.block / format.sub;
  unsigned char *sc = record + (format.has_min ? 4 : 2) * XF_LANES + lane;
  for (size_t j = 0; j < subs; j++) sc[j * XF_LANES] = block->sc[j];
  for (size_t j = 0; j < subs && format.has_min; j++) sc[(subs + j) * XF_LANES] = block->mn[j];
}

/* One column of a panel. */
static void place_row(xf_type type, size_t k, struct xf_quant_row row, size_t lane,
                      unsigned char *panel)
{
  struct xf_quant_format format = xf_quant_format_of(type);
  size_t n = format.block ? format.block : XF_QUANT_CHUNK, chunk_bytes = 64 * format.bits;
  unsigned char *records = panel + xf_quant_records_at(format, k);
  struct block block;
  for (size_t at = 0; at < k; at += n) {
    take_block(type, k, row, at, n, &block);
    for (size_t i = 0; i < n; i += XF_QUANT_CHUNK)
      place_column(format.bits, block.u + i, lane, panel + (at + i) / XF_QUANT_CHUNK * chunk_bytes);
    if (format.block) place_record(type, &block, lane, records + at / n * format.record);
  }
  float scale = row.data ? row.scale : 0;
  if (!format.block) memcpy(records + sizeof scale * lane, &scale, sizeof scale);
}

void xf_quant_pack(xf_type type, size_t k, const struct xf_quant_row rows[static XF_LANES],
                   void *panel)
{
  size_t bytes = xf_quant_panel_bytes(xf_quant_format_of(type), k);
  memset((char *)panel + bytes - XF_QUANT_ALIGN, 0, XF_QUANT_ALIGN); /* behind the last record */
  for (size_t lane = 0; lane < XF_LANES; lane++) place_row(type, k, rows[lane], lane, panel);
}
