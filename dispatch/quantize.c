#include "dispatch/quantize.h"

#include <math.h>
#include <string.h>

#include "dispatch/narrow.h"
#include "dispatch/quantize_line.h"

/* ---- floats ---- */

static bool to_f32(size_t k, const float *x, unsigned char *out, float *scale)
{
  (void)scale;
  memcpy(out, x, k * sizeof *x);
  return true;
}

static bool to_f16(size_t k, const float *x, unsigned char *out, float *scale)
{
  (void)scale;
  bool fits = true;
  for (size_t i = 0; i < k; i++) {
    float rounded;
    uint16_t half = xf_round_f16(x[i], &rounded);
    fits &= isfinite(rounded) != 0;
    memcpy(out + i * sizeof half, &half, sizeof half);
  }
  return fits;
}

static bool to_bf16(size_t k, const float *x, unsigned char *out, float *scale)
{
  (void)scale;
  bool fits = true;
  for (size_t i = 0; i < k; i++) {
    uint16_t upper = xf_round_bf16(x[i]);
    fits &= (upper & 0x7F80) != 0x7F80;
    memcpy(out + i * sizeof upper, &upper, sizeof upper);
  }
  return fits;
}

/* ---- eight bits ---- */

static float largest(size_t n, const float *x)
{
  float most = 0;
  for (size_t i = 0; i < n; i++) most = fmaxf(most, fabsf(x[i]));
  return most;
}

/* n signed bytes at out, x ≈ d · byte. */
static void to_bytes(size_t n, const float *x, float d, unsigned char *out)
{
  for (size_t i = 0; i < n; i++) {
    float q = d > 0 ? nearbyintf(x[i] / d) : 0;
    signed char byte = (signed char)fmaxf(-127, fminf(127, q));
    memcpy(out + i, &byte, 1);
  }
}

static bool to_i8_row(size_t k, const float *x, unsigned char *out, float *scale)
{
  *scale = largest(k, x) / 127;
  to_bytes(k, x, *scale, out);
  return true;
}

/* f16 d, then 32 bytes. */
static bool to_q8_0(size_t k, const float *x, unsigned char *out, float *scale)
{
  (void)scale;
  bool fits = true;
  for (size_t i = 0; i < k; i += 32, out += 34) {
    float d;
    uint16_t half = xf_round_f16(largest(32, x + i) / 127, &d);
    fits &= isfinite(d) != 0;
    memcpy(out, &half, sizeof half);
    to_bytes(32, x + i, d, out + 2);
  }
  return fits;
}

/* ---- four and five bits ---- */

/* l for one d, and the d that fits them best; returns how much of Σ x² it explains. */
static float try_scale(size_t n, const float *x, int range, float inverse, int *l, float *d)
{
  float products = 0, squares = 0;
  for (size_t i = 0; i < n; i++) {
    float q = fmaxf((float)-range, fminf((float)(range - 1), nearbyintf(x[i] * inverse)));
    l[i] = (int)q;
    products += x[i] * q;
    squares += q * q;
  }
  *d = squares > 0 ? products / squares : 0;
  return products * *d;
}

float xf_fit_scale(size_t n, const float *x, int range, int *l)
{
  enum { MOST = 32, TRIALS = 9 };
  float extreme = 0, best = 0, d = 0;
  memset(l, 0, n * sizeof *l);
  for (size_t i = 0; i < n; i++)
    if (fabsf(x[i]) > fabsf(extreme)) extreme = x[i];
  if (fabsf(extreme) < 0x1p-100f) return 0; /* what follows could overflow */
  for (int trial = -TRIALS; trial <= TRIALS; trial++) {
    int candidate[MOST];
    float fitted, inverse = -((float)range + 0.1f * (float)trial) / extreme;
    float explained = try_scale(n, x, range, inverse, candidate, &fitted);
    if (explained <= best) continue;
    best = explained;
    d = fitted;
    memcpy(l, candidate, n * sizeof *l);
  }
  return d;
}

/* 32 numbers of four or five bits: the fifth ones in 4 bytes, then 16 with the first half in the
 * low nibbles. Returns where they end. */
static unsigned char *store_bits(const int *u, int bits, unsigned char *out)
{
  if (bits == 5) {
    memset(out, 0, 4);
    for (size_t i = 0; i < 32; i++) out[i / 8] |= (unsigned char)(u[i] >> 4 << i % 8);
    out += 4;
  }
  for (size_t i = 0; i < 16; i++) out[i] = (unsigned char)((u[i] & 15) | (u[16 + i] & 15) << 4);
  return out + 16;
}

/* Q4_0, Q5_0: f16 d, then l + half of the numbers there are. */
static bool to_centred(size_t k, const float *x, int bits, unsigned char *out)
{
  int range = 1 << (bits - 1);
  bool fits = true;
  for (size_t i = 0; i < k; i += 32) {
    int l[32];
    float d;
    uint16_t half = xf_round_f16(xf_fit_scale(32, x + i, range, l), &d);
    fits &= isfinite(d) != 0;
    memcpy(out, &half, sizeof half);
    for (size_t j = 0; j < 32; j++) l[j] += range;
    out = store_bits(l, bits, out + sizeof half);
  }
  return fits;
}

/* Q4_1, Q5_1: f16 d and m, then l: x ≈ d · l + m. */
static bool to_lines(size_t k, const float *x, int bits, unsigned char *out)
{
  const struct xf_line_form form = {(1 << bits) - 1, true};
  bool fits = true;
  for (size_t i = 0; i < k; i += 32) {
    int l[32];
    uint16_t halves[2];
    struct xf_line line = xf_line_rounded(xf_line_fit(x + i, form), halves);
    fits &= isfinite(line.scale) && isfinite(line.minimum);
    memcpy(out, halves, sizeof halves);
    xf_line_choose(x + i, line, form.most, l);
    out = store_bits(l, bits, out + sizeof halves);
  }
  return fits;
}

static bool to_q4_0(size_t k, const float *x, unsigned char *out, float *scale)
{
  (void)scale;
  return to_centred(k, x, 4, out);
}

static bool to_q5_0(size_t k, const float *x, unsigned char *out, float *scale)
{
  (void)scale;
  return to_centred(k, x, 5, out);
}

static bool to_q4_1(size_t k, const float *x, unsigned char *out, float *scale)
{
  (void)scale;
  return to_lines(k, x, 4, out);
}

static bool to_q5_1(size_t k, const float *x, unsigned char *out, float *scale)
{
  (void)scale;
  return to_lines(k, x, 5, out);
}

/* ---- the table ---- */

/* Of a row of finite weights; see xf_quantize_row. */
typedef bool quantizer(size_t k, const float *x, unsigned char *out, float *scale);

/* By xf_type. */
static quantizer *const quantizers[] = {[XF_F32] = to_f32,
                                        [XF_F16] = to_f16,
                                        [XF_BF16] = to_bf16,
                                        [XF_I8_ROW] = to_i8_row,
                                        [XF_Q8_0] = to_q8_0,
                                        [XF_Q4_0] = to_q4_0,
                                        [XF_Q4_1] = to_q4_1,
                                        [XF_Q5_0] = to_q5_0,
                                        [XF_Q5_1] = to_q5_1,
                                        [XF_Q4_K] = xf_quantize_q4_k,
                                        [XF_Q5_K] = xf_quantize_q5_k,
                                        [XF_Q6_K] = xf_quantize_q6_k};

bool xf_can_quantize(xf_type type)
{
  return (size_t)type < sizeof quantizers / sizeof *quantizers && quantizers[type];
}

bool xf_quantize_row(xf_type type, size_t k, const float *x, unsigned char *out, float *scale)
{
  bool finite = true;
  for (size_t i = 0; i < k; i++) finite &= isfinite(x[i]) != 0;
  return finite && quantizers[type](k, x, out, scale);
}
