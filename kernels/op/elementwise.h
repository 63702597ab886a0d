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
  v16 sum[4] = {v16_set1(0), v16_set1(0), v16_set1(0), v16_set1(0)};
  size_t i = 0;
  for (; i + XF_LANES <= n; i += XF_LANES) {
    v16 v = v16_load(x + i);
    sum[i / XF_LANES % 4] = v16_fma(v, v, sum[i / XF_LANES % 4]);
  }
  if (i < n) {
    v16 v = v16_load_n(x + i, n - i);
    sum[i / XF_LANES % 4] = v16_fma(v, v, sum[i / XF_LANES % 4]);
  }
  float mean = sum64_v16(sum[0], sum[1], sum[2], sum[3]) / (float)n;
  const v16 r = v16_set1(1.0f / sqrtf(mean + eps));
  for (i = 0; i + XF_LANES <= n; i += XF_LANES)
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
  for (size_t i = 0; i < half; i += XF_LANES) {
    size_t n = half - i < XF_LANES ? half - i : XF_LANES;
    v16 c, s, a, b;
    if (n == XF_LANES) {
      c = v16_load(cos_in + i), s = v16_load(sin_in + i);
      a = v16_load(x + i), b = v16_load(x + half + i);
    } else {
      c = v16_load_n(cos_in + i, n), s = v16_load_n(sin_in + i, n);
      a = v16_load_n(x + i, n), b = v16_load_n(x + half + i, n);
    }
    v16 a_new = v16_fma(a, c, v16_neg(v16_mul(b, s)));
    v16 b_new = v16_fma(b, c, v16_mul(a, s));
    if (n == XF_LANES) {
      v16_store(x + i, a_new), v16_store(x + half + i, b_new);
    } else {
      v16_store_n(x + i, n, a_new), v16_store_n(x + half + i, n, b_new);
    }
  }
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
  const float top = largest(n, x);
  const v16 scale = v16_set1(c), offset = v16_set1(top == -INFINITY ? 0 : -(top * c));
  v16 sum[4] = {v16_set1(0), v16_set1(0), v16_set1(0), v16_set1(0)};
  for (size_t i = 0; i < n; i += XF_LANES) {
    size_t count = n - i < XF_LANES ? n - i : XF_LANES;
    float lanes[XF_LANES] = {0};
    v16 v = count < XF_LANES ? v16_load_n(x + i, count) : v16_load(x + i);
    v16_store(lanes, exp2_v16(v16_fma(v, scale, offset)));
    for (size_t lane = count; lane < XF_LANES; lane++) lanes[lane] = 0;
    memcpy(p + i, lanes, count * sizeof *p);
    sum[i / XF_LANES % 4] = v16_add(sum[i / XF_LANES % 4], v16_load(lanes));
  }
  return sum64_v16(sum[0], sum[1], sum[2], sum[3]);
}

#endif
