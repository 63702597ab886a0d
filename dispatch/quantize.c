#include "dispatch/quantize.h"

#include <math.h>
#include <string.h>

#include "dispatch/narrow.h"

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

/* ---- four bits ---- */

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

/* f16 d, then l + 8 in 16 bytes: the first half in the low nibbles. */
static bool to_q4_0(size_t k, const float *x, unsigned char *out, float *scale)
{
  (void)scale;
  bool fits = true;
  for (size_t i = 0; i < k; i += 32, out += 18) {
    int l[32];
    float d;
    uint16_t half = xf_round_f16(xf_fit_scale(32, x + i, 8, l), &d);
    fits &= isfinite(d) != 0;
    memcpy(out, &half, sizeof half);
    for (size_t j = 0; j < 16; j++) out[2 + j] = (unsigned char)((l[j] + 8) | (l[16 + j] + 8) << 4);
  }
  return fits;
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
                                        [XF_Q4_K] = xf_quantize_q4_k,
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
