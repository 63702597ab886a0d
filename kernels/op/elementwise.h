/* Operations on one row: residual add, RMSNorm, RoPE, SiLU·up, arg-max, softmax of logits. */
#ifndef XF_OP_ELEMENTWISE_H
#define XF_OP_ELEMENTWISE_H

static void add(size_t n, float *x, const float *y)
{
  size_t i = 0;
  for (; i + XF_LANES <= n; i += XF_LANES)
    v16_store(x + i, v16_add(v16_load(x + i), v16_load(y + i)));
  if (i == n) return;
  v16_store_n(x + i, n - i, v16_add(v16_load_n(x + i, n - i), v16_load_n(y + i, n - i)));
}

/* Zhang & Sennrich 2019, "Root Mean Square Layer Normalization". */
static void rms_norm(size_t n, const float *x, const float *w, float eps, float *y)
{
  float mean = row_sum(x, n, true) / (float)n;
  size_t i = 0;
  const v16 r = v16_set1(1.0f / sqrtf(mean + eps));
  for (; i + XF_LANES <= n; i += XF_LANES)
    v16_store(y + i, v16_mul(v16_mul(v16_load(x + i), r), v16_load(w + i)));
  if (i == n) return;
  v16 scaled = v16_mul(v16_load_n(x + i, n - i), r);
  v16_store_n(y + i, n - i, v16_mul(scaled, v16_load_n(w + i, n - i)));
}

/* Su et al. 2021, "RoFormer". */
static void rope_angles(size_t half, float pos, const float *inv_freq, float *cos_out,
                        float *sin_out)
{
  const v16 p = v16_set1(pos);
  for (size_t i = 0; i < half; i += XF_LANES) {
    size_t n = half - i < XF_LANES ? half - i : XF_LANES;
    v16 angle = v16_mul(p, n < XF_LANES ? v16_load_n(inv_freq + i, n) : v16_load(inv_freq + i));
    float c[XF_LANES], s[XF_LANES];
    v16_store(c, v16_cos(angle));
    v16_store(s, v16_sin(angle));
    memcpy(cos_out + i, c, n * sizeof *c);
    memcpy(sin_out + i, s, n * sizeof *s);
  }
}

static void rope(size_t half, const float *cos_in, const float *sin_in, float *x)
{
  float *y = x + half;
  size_t i = 0;
  for (; i + XF_LANES <= half; i += XF_LANES) {
    v16 c = v16_load(cos_in + i), s = v16_load(sin_in + i), a = v16_load(x + i),
        b = v16_load(y + i);
    v16_store(x + i, v16_fma(a, c, v16_neg(v16_mul(b, s))));
    v16_store(y + i, v16_fma(b, c, v16_mul(a, s)));
  }
  if (i == half) return;
  size_t n = half - i;
  v16 c = v16_load_n(cos_in + i, n), s = v16_load_n(sin_in + i, n);
  v16 a = v16_load_n(x + i, n), b = v16_load_n(y + i, n);
  v16_store_n(x + i, n, v16_fma(a, c, v16_neg(v16_mul(b, s))));
  v16_store_n(y + i, n, v16_fma(b, c, v16_mul(a, s)));
}

XF_INLINE v16 silu_mul_v16(v16 gate, v16 up)
{
  v16 denominator = v16_add(v16_set1(1.0f), v16_exp(v16_neg(gate)));
  return v16_mul(v16_div(gate, denominator), up);
}

/* Shazeer 2020, "GLU Variants Improve Transformer". */
static void silu_mul(size_t n, const float *gate, const float *up, float *y)
{
  size_t i = 0;
  for (; i + XF_LANES <= n; i += XF_LANES)
    v16_store(y + i, silu_mul_v16(v16_load(gate + i), v16_load(up + i)));
  if (i == n) return;
  size_t rest = n - i;
  v16_store_n(y + i, rest, silu_mul_v16(v16_load_n(gate + i, rest), v16_load_n(up + i, rest)));
}

/* The largest element that is not NaN; −inf where there is none. */
static float largest(size_t n, const float *x)
{
  v16 top = v16_set1(-INFINITY);
  size_t i = 0;
  for (; i + XF_LANES <= n; i += XF_LANES) top = v16_max(v16_load(x + i), top);
  float lanes[XF_LANES];
  v16_store(lanes, top);
  for (; i < n; i++) lanes[0] = xf_max(x[i], lanes[0]);
  for (int lane = 1; lane < XF_LANES; lane++) lanes[0] = xf_max(lanes[lane], lanes[0]);
  return lanes[0];
}

static size_t arg_max(size_t n, const float *x)
{
  const float top = largest(n, x);
  for (size_t i = 0; i < n; i++)
    if (x[i] == top) return i;
  return 0;
}

static float softmax(size_t n, const float *x, float c, float *p)
{
  float m, l;
  memmove(p, x, n * sizeof *p);
  tile_softmax(p, n, tile_row_max(p, n), c, &m, &l);
  return l;
}

#endif
