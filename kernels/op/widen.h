/* 8- and 4-bit weights as floats: from panels of kernels/quant.h to panels [k][16]. */
#ifndef XF_OP_WIDEN_H
#define XF_OP_WIDEN_H

#include "kernels/quant.h"

/* u of weight 4·step + i of all columns. */
XF_INLINE v16u quants_at(const int bits, const uint8_t *chunk, int step, int i)
{
  if (bits == 8) return v16u_bits(v16u_load(chunk + 64 * step), 8 * i, 0xFF);
  v16u low = v16u_bits(v16u_load(chunk + 64 * (step / 2)), 8 * i + 4 * (step % 2), 15);
  if (bits == 5) return v16u_join(low, v16u_bits(v16u_load(chunk + 256), 8 * i + step, 1));
  if (bits == 6)
    return v16u_join(
        low, v16u_bits(v16u_load(chunk + 256 + 64 * (step / 4)), 8 * i + 2 * (step % 4), 3));
  return low;
}

/* Steps [from, to) of a chunk, which share a scale: y[j][column] = scale · (u − zero), + minimum
 * where there is one. */
XF_INLINE void widen_steps(const struct xf_quant_format format, const uint8_t *chunk, int from,
                           int to, v16 scale, v16 minimum, float *y)
{
  const v16 zero = v16_set1(format.zero);
  for (int step = from; step < to; step++) {
    XF_UNROLL
    for (int i = 0; i < XF_QUANT_STEP; i++) {
      v16 u = v16_of_u(quants_at(format.bits, chunk, step, i));
      v16 w = v16_mul(scale, v16_sub(u, zero));
      v16_store(y + (XF_QUANT_STEP * step + i) * XF_LANES,
                format.has_min ? v16_add(w, minimum) : w);
    }
  }
}

/* Sixteen integers of a byte. */
XF_INLINE v16 v16_of_bytes(const bool is_signed, const uint8_t *bytes)
{
  float lanes[XF_LANES];
  for (int i = 0; i < XF_LANES; i++) lanes[i] = is_signed ? (int8_t)bytes[i] : bytes[i];
  return v16_load(lanes);
}

/* A chunk of a block whose record has sub-scales; `first` is the first of them that it uses. */
XF_INLINE void widen_subs(const struct xf_quant_format format, const uint8_t *chunk,
                          const uint8_t *record, size_t first, float *y)
{
  const int subs = XF_QUANT_CHUNK / format.sub, steps = 8 / subs;
  const uint8_t *sc = record + (format.has_min ? 64 : 32) + first * XF_LANES;
  v16 d = v16_load_f16((const uint16_t *)(const void *)record), minimum = d;
  for (int j = 0; j < subs; j++, sc += XF_LANES) {
    v16 scale = v16_mul(d, v16_of_bytes(!format.has_min, sc));
    if (format.has_min) {
      v16 dmin = v16_load_f16((const uint16_t *)(const void *)(record + 32));
      v16 mn = v16_of_bytes(false, sc + (size_t)format.block / format.sub * XF_LANES);
      minimum = v16_neg(v16_mul(dmin, mn));
    }
    widen_steps(format, chunk, j * steps, (j + 1) * steps, scale, minimum, y);
  }
}

/* Chunk number `index` of a panel. */
XF_INLINE void widen_chunk(const struct xf_quant_format format, const uint8_t *quants,
                           const uint8_t *records, size_t index, float *y)
{
  const uint8_t *chunk = quants + index * 64 * format.bits;
  if (format.block == 0) {
    v16 scale = v16_load((const float *)(const void *)records);
    widen_steps(format, chunk, 0, 8, scale, scale, y);
    return;
  }
  size_t at = index * XF_QUANT_CHUNK;
  const uint8_t *record = records + at / format.block * format.record;
  if (format.block > XF_QUANT_CHUNK) {
    widen_subs(format, chunk, record, at % format.block / format.sub, y);
    return;
  }
  const uint16_t *halves = (const uint16_t *)(const void *)record;
  v16 scale = v16_load_f16(halves);
  widen_steps(format, chunk, 0, 8, scale, format.has_min ? v16_load_f16(halves + XF_LANES) : scale,
              y);
}

XF_INLINE void widen_type(const xf_type type, size_t k_all, const uint8_t *panel, size_t k0,
                          size_t k, float *y)
{
  const struct xf_quant_format format = xf_quant_format_of(type);
  const uint8_t *records = panel + xf_quant_records_at(format, k_all);
  for (size_t i = k0; i < k0 + k; i += XF_QUANT_CHUNK, y += XF_QUANT_CHUNK * XF_LANES)
    widen_chunk(format, panel, records, i / XF_QUANT_CHUNK, y);
}

/* [k0, k0 + k) of a panel with k_all numbers in a column: y [k rounded up to whole chunks][16]. k0
 * is the beginning of a block. */
XF_APART void widen_quants(xf_type type, size_t k_all, const void *w, size_t panel, size_t k0,
                           size_t k, float *y)
{
  const uint8_t *from = w;
  from += panel * xf_quant_panel_bytes(xf_quant_format_of(type), k_all);
  switch (type) {
  case XF_Q8_0: widen_type(XF_Q8_0, k_all, from, k0, k, y); break;
  case XF_Q4_0: widen_type(XF_Q4_0, k_all, from, k0, k, y); break;
  case XF_Q4_1: widen_type(XF_Q4_1, k_all, from, k0, k, y); break;
  case XF_Q5_0: widen_type(XF_Q5_0, k_all, from, k0, k, y); break;
  case XF_Q5_1: widen_type(XF_Q5_1, k_all, from, k0, k, y); break;
  case XF_Q4_K: widen_type(XF_Q4_K, k_all, from, k0, k, y); break;
  case XF_Q5_K: widen_type(XF_Q5_K, k_all, from, k0, k, y); break;
  case XF_Q6_K: widen_type(XF_Q6_K, k_all, from, k0, k, y); break;
  default: widen_type(XF_I8_ROW, k_all, from, k0, k, y); break;
  }
}

#endif
