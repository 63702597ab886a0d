#include <math.h>
#include <stdint.h>
#include <string.h>

#include "tests/oracle.h"

enum { BLOCK = 512 };

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

void numerics_block(const struct attention_row *row, float *p, float *m, float *l, float *acc)
{
  float top = -INFINITY;
  for (size_t j = 0; j < row->n; j++) {
    p[j] = 0;
    for (size_t d = 0; d < row->d_k; d++) p[j] = fmaf(row->q[d], row->k[j * row->ldk + d], p[j]);
    top = p[j] > top ? p[j] : top;
  }
  *m = row->n == 0 ? 0 : top * row->c + 0.0f; /* −0 becomes +0 */
  for (size_t j = 0; j < row->n; j++) p[j] = numerics_exp2(fmaf(p[j], row->c, -*m));
  *l = numerics_sum(row->n, p);
  for (size_t d = 0; d < row->d_v && row->n; d++) {
    acc[d] = 0;
    for (size_t j = 0; j < row->n; j++) acc[d] = fmaf(p[j], row->v[j * row->ldv + d], acc[d]);
  }
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
