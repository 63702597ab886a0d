#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "tests/oracle.h"

enum { BLOCK = 512, MOST_COLUMNS = 256 };

float numerics_exp2(float x)
{
  static const float terms[] = {0x1.470b4ap-13f,
                                0x1.5f7276p-10f,
                                0x1.3b270ep-7f,
                                0x1.c6ae72p-5f,
                                0x1.ebfbe2p-3f,
                                0x1.62e432p-1f,
                                1};
  x = -127 > x ? -127 : x;
  float n = x + 12583039.0f, f = x - (n - 12583039.0f), p = terms[0], power;
  for (int i = 1; i < 7; i++) p = fmaf(p, f, terms[i]);
  uint32_t bits;
  memcpy(&bits, &n, sizeof bits);
  bits <<= 23;
  memcpy(&power, &bits, sizeof power);
  return p * power;
}

static float tree(float *sum)
{
  for (int i = 0; i < 16; i++) sum[i] = (sum[i] + sum[16 + i]) + (sum[32 + i] + sum[48 + i]);
  for (int half = 8; half > 0; half /= 2) {
    for (int i = 0; i < half; i++) sum[i] += sum[i + half];
  }
  return sum[0];
}

float numerics_sum(size_t n, const float *x)
{
  float sum[64] = {0};
  for (size_t i = 0; i < n; i++) sum[i % 64] += x[i];
  return tree(sum);
}

float numerics_linear(size_t k, const float *x, const float *w, size_t stride)
{
  float y = 0;
  for (size_t from = 0; from < k; from += BLOCK) {
    size_t to = k - from < BLOCK ? k : from + BLOCK;
    float chain = 0;
    for (size_t i = from; i < to; i++) chain = fmaf(x[i], w[i * stride], chain);
    y = from == 0 ? chain : y + chain;
  }
  return y;
}

float numerics_rms(size_t n, const float *x, float eps)
{
  float sum[64] = {0};
  for (size_t i = 0; i < n; i++) sum[i % 64] = fmaf(x[i], x[i], sum[i % 64]);
  return 1 / sqrtf(tree(sum) / (float)n + eps);
}

static float bias_of(const struct attention_row *row, size_t j)
{
  float bias = row->mask ? row->mask[j] : 0;
  if (row->slope) bias += *row->slope * (float)((ptrdiff_t)j - row->position);
  return bias;
}

/* −inf: not seen. */
static float score_of(const struct attention_row *row, size_t j)
{
  bool biased = row->mask || row->slope;
  if (j < row->first || (biased && bias_of(row, j) == -INFINITY)) return -INFINITY;
  float s = 0;
  for (size_t d = 0; d < row->d_k; d++)
    s = fmaf(row->scale < 0 ? -row->q[d] : row->q[d], row->k[j * row->ldk + d], s);
  if (!biased) return s;
  float t = fmaf(s, fabsf(row->scale), bias_of(row, j));
  return t < -0x1p126f && t != -INFINITY ? -0x1p126f : t;
}

void numerics_block(const struct attention_row *row, float *p, float *m, float *l, float *acc)
{
  float top = -INFINITY, c = row->mask || row->slope ? 0x1.715476p+0f : row->c;
  for (size_t j = 0; j < row->n; j++) {
    p[j] = score_of(row, j);
    top = p[j] > top ? p[j] : top;
  }
  *m = top == -INFINITY ? 0 : top * c + 0.0f; /* −0 becomes +0 */
  for (size_t d = 0; d < row->d_v && top > -INFINITY; d++) acc[d] = 0;
  for (size_t j = 0; j < row->n; j++) {
    bool seen = p[j] > -INFINITY;
    float x = fabsf(*m) < 0x1p30f ? fmaf(p[j], c, -*m) : (p[j] - top) * c;
    p[j] = seen ? numerics_exp2(x) : 0;
    for (size_t d = 0; d < row->d_v && seen; d++)
      acc[d] = fmaf(p[j], row->v[j * row->ldv + d], acc[d]);
  }
  *l = numerics_sum(row->n, p);
}

void numerics_merge(size_t d_v, float *m, float *l, float *acc, float m_b, float l_b,
                    const float *acc_b)
{
  if (l_b == 0) return;
  if (*l == 0) {
    *m = m_b, *l = l_b;
    memcpy(acc, acc_b, d_v * sizeof *acc);
    return;
  }
  float top = *m > m_b ? *m : m_b;
  float wa = numerics_exp2(*m - top), wb = numerics_exp2(m_b - top);
  *m = top;
  *l = fmaf(l_b, wb, *l * wa);
  for (size_t d = 0; d < d_v; d++) acc[d] = fmaf(acc_b[d], wb, acc[d] * wa);
}

void numerics_attention(const struct attention_row *row, float *out)
{
  static float p[BLOCK], acc[MOST_COLUMNS], zeros[MOST_COLUMNS];
  float m = 0, l = 0;
  for (size_t from = 0; from < row->n; from += BLOCK) {
    struct attention_row block = *row;
    float m_b, l_b;
    block.n = row->n - from < BLOCK ? row->n - from : BLOCK;
    block.first = row->first < from ? 0 : row->first - from;
    block.position -= (ptrdiff_t)from;
    block.k += from * row->ldk, block.v += from * row->ldv;
    if (row->mask) block.mask += from;
    numerics_block(&block, p, &m_b, &l_b, acc);
    numerics_merge(row->d_v, &m, &l, out, m_b, l_b, acc);
  }
  if (row->sink) numerics_merge(row->d_v, &m, &l, out, *row->sink * 0x1.715476p+0f, 1, zeros);
  float inverse = 1 / l;
  for (size_t d = 0; d < row->d_v; d++) out[d] = l != 0 ? out[d] * inverse : 0;
}

float numerics_quantize(size_t n, const float *x, int8_t *q)
{
  float amax = 0;
  memset(q, 0, n);
  for (size_t i = 0; i < n; i++) {
    if (!isfinite(x[i])) return NAN;
    amax = fabsf(x[i]) > amax ? fabsf(x[i]) : amax;
  }
  float d = amax / 127;
  if (d < 0x1p-126f) return 0;
  float id = 1 / d;
  for (size_t i = 0; i < n; i++) {
    float scaled_x = x[i] * id;
    scaled_x = scaled_x > 127 ? 127 : scaled_x < -127 ? -127 : scaled_x;
    double down = floor((double)scaled_x), above = (double)scaled_x - down;
    bool up = above > 0.5 || (above == 0.5 && fmod(down, 2) != 0);
    q[i] = (int8_t)(down + up);
  }
  return d;
}
