/* ggml's "K" types: 256 weights with scales of their own for 32 or 16 of them. */
#include <math.h>
#include <string.h>

#include "dispatch/narrow.h"
#include "dispatch/quantize.h"

enum { BLOCK = 256 };

/* ---- Q6_K: x = (d · sc) · l, sc a signed byte for 16 weights, l in −32 … 31 ---- */

enum { SUB6 = 16, SUBS6 = BLOCK / SUB6 };

static int clamped(float q, int low, int high)
{
  return (int)fmaxf((float)low, fminf((float)high, nearbyintf(q)));
}

/* The d that fits x ≈ d · (sc · l) best. */
static float refit_d(const float *x, const int *sc, const int *l)
{
  double products = 0, squares = 0;
  for (size_t i = 0; i < BLOCK; i++) {
    double product = sc[i / SUB6] * l[i];
    products += product * (double)x[i];
    squares += product * product;
  }
  return squares > 0 ? (float)(products / squares) : 0;
}

static void choose_l6(const float *x, float d, const int *sc, int *l)
{
  for (size_t i = 0; i < BLOCK; i++) {
    float scale = d * (float)sc[i / SUB6];
    l[i] = scale != 0 ? clamped(x[i] / scale, -32, 31) : 0;
  }
}

/* Each half of the block: 64 bytes of low nibbles, 32 of upper bits. */
static void store_l6(const int *l, unsigned char *low, unsigned char *high)
{
  for (size_t i = 0; i < 64; i++)
    low[i] = (unsigned char)(((l[i] + 32) & 15) | ((l[64 + i] + 32) & 15) << 4);
  for (size_t i = 0; i < 32; i++) {
    high[i] = 0;
    for (size_t j = 0; j < 4; j++) high[i] |= (unsigned char)((l[32 * j + i] + 32) >> 4 << 2 * j);
  }
}

static bool block_q6_k(const float *x, unsigned char *out)
{
  float scales[SUBS6], extreme = 0, d = 0;
  int l[BLOCK], sc[SUBS6] = {0};
  for (size_t j = 0; j < SUBS6; j++) {
    scales[j] = xf_fit_scale(SUB6, x + SUB6 * j, 32, l + SUB6 * j);
    if (fabsf(scales[j]) > fabsf(extreme)) extreme = scales[j];
  }
  uint16_t half = xf_round_f16(extreme / -128, &d);
  if (!isfinite(d)) return false; /* a refit would find zeros */
  if (d != 0) {
    for (size_t j = 0; j < SUBS6; j++) sc[j] = clamped(scales[j] / d, -128, 127);
    choose_l6(x, d, sc, l);
    half = xf_round_f16(refit_d(x, sc, l), &d);
  }
  choose_l6(x, d, sc, l);
  store_l6(l, out, out + 128);
  store_l6(l + 128, out + 64, out + 160);
  for (size_t j = 0; j < SUBS6; j++) out[192 + j] = (unsigned char)(sc[j] & 255);
  memcpy(out + 208, &half, sizeof half);
  return isfinite(d);
}

bool xf_quantize_q6_k(size_t k, const float *x, unsigned char *out, float *scale)
{
  (void)scale;
  bool fits = true;
  for (size_t i = 0; i < k; i += BLOCK, out += 210) fits &= block_q6_k(x + i, out);
  return fits;
}

/* ---- Q4_K: x = (d · sc) · l − dmin · mn, sc and mn of 6 bits for 32 weights, l of 4 ---- */

enum { SUB4 = 32, SUBS4 = BLOCK / SUB4 };

/* x ≈ scale · l − minimum */
struct line {
  float scale, minimum;
};

/* The line of least squares through (l, x) with minimum ≥ 0. */
static struct line fit_line(const float *x, const int *l)
{
  float sum_x = 0, sum_l = 0, sum_ll = 0, sum_xl = 0, n = SUB4;
  for (size_t i = 0; i < SUB4; i++) {
    float q = (float)l[i];
    sum_x += x[i];
    sum_l += q;
    sum_ll += q * q;
    sum_xl += x[i] * q;
  }
  struct line line = {0};
  float determinant = n * sum_ll - sum_l * sum_l;
  if (determinant > 0) {
    line.scale = (n * sum_xl - sum_x * sum_l) / determinant;
    line.minimum = (sum_l * sum_xl - sum_ll * sum_x) / determinant;
  }
  if (determinant <= 0 || line.minimum < 0)
    line = (struct line){sum_ll > 0 ? sum_xl / sum_ll : 0, 0};
  return line;
}

static void choose_l4(const float *x, struct line line, int *l)
{
  for (size_t i = 0; i < SUB4; i++)
    l[i] = line.scale > 0 ? clamped((x[i] + line.minimum) / line.scale, 0, 15) : 0;
}

static float squared_error(const float *x, struct line line, const int *l)
{
  float error = 0;
  for (size_t i = 0; i < SUB4; i++) {
    float difference = line.scale * (float)l[i] - line.minimum - x[i];
    error += difference * difference;
  }
  return error;
}

/* Tries lines that span a little less or more than the weights do. */
static struct line fit_sub(const float *x)
{
  enum { TRIALS = 20 };
  float low = 0, high = x[0];
  for (size_t i = 0; i < SUB4; i++) {
    low = fminf(low, x[i]);
    high = fmaxf(high, x[i]);
  }
  if (!(high - low >= 0x1p-100f)) return (struct line){0, -low}; /* what follows could overflow */
  struct line best = {(high - low) / 15, -low};
  int l[SUB4];
  choose_l4(x, best, l);
  float least = squared_error(x, best, l);
  for (int trial = 0; trial <= TRIALS; trial++) {
    struct line line = {(high - low) / (14 + 0.1f * (float)trial), -low};
    choose_l4(x, line, l);
    line = fit_line(x, l);
    choose_l4(x, line, l);
    float error = squared_error(x, line, l);
    if (!(error < least)) continue;
    least = error;
    best = line;
  }
  return best;
}

/* What a block of Q4_K holds. */
struct k4 {
  float d, dmin;
  uint16_t halves[2];
  int sc[SUBS4], mn[SUBS4], l[BLOCK];
};

static struct line line_of(const struct k4 *b, size_t sub)
{
  return (struct line){b->d * (float)b->sc[sub], b->dmin * (float)b->mn[sub]};
}

static void round_k4(struct k4 *b, float d, float dmin)
{
  b->halves[0] = xf_round_f16(d, &b->d);
  b->halves[1] = xf_round_f16(dmin, &b->dmin);
}

static void choose_block_l4(const float *x, struct k4 *b)
{
  for (size_t j = 0; j < SUBS4; j++) choose_l4(x + SUB4 * j, line_of(b, j), b->l + SUB4 * j);
}

static float block_error(const float *x, const struct k4 *b)
{
  float error = 0;
  for (size_t j = 0; j < SUBS4; j++)
    error += squared_error(x + SUB4 * j, line_of(b, j), b->l + SUB4 * j);
  return error;
}

/* d and dmin of least squares for the sc, mn and l there are. */
static void refit_k4(const float *x, struct k4 *b)
{
  double aa = 0, ab = 0, bb = 0, ax = 0, bx = 0;
  for (size_t i = 0; i < BLOCK; i++) {
    double a = b->sc[i / SUB4] * b->l[i], m = -b->mn[i / SUB4];
    aa += a * a;
    ab += a * m;
    bb += m * m;
    ax += a * (double)x[i];
    bx += m * (double)x[i];
  }
  double determinant = aa * bb - ab * ab;
  if (!(determinant > 0)) return;
  double d = (bb * ax - ab * bx) / determinant, dmin = (aa * bx - ab * ax) / determinant;
  if (d > 0 && dmin > 0) round_k4(b, (float)d, (float)dmin);
}

/* Eight pairs of 6 bits in 12 bytes: four whole ones, then four whose upper bits lie above them. */
static void store_k4(const struct k4 *b, unsigned char *out)
{
  unsigned char *s = out + 4;
  memcpy(out, b->halves, 4);
  for (size_t j = 0; j < 4; j++) {
    s[j] = (unsigned char)(b->sc[j] | b->sc[4 + j] >> 4 << 6);
    s[4 + j] = (unsigned char)(b->mn[j] | b->mn[4 + j] >> 4 << 6);
    s[8 + j] = (unsigned char)((b->sc[4 + j] & 15) | (b->mn[4 + j] & 15) << 4);
  }
  for (size_t pair = 0; pair < 4; pair++)
    for (size_t i = 0; i < 32; i++)
      out[16 + 32 * pair + i] =
          (unsigned char)(b->l[64 * pair + i] | b->l[64 * pair + 32 + i] << 4);
}

static bool block_q4_k(const float *x, unsigned char *out)
{
  struct line lines[SUBS4], most = {0};
  struct k4 block = {0};
  for (size_t j = 0; j < SUBS4; j++) {
    lines[j] = fit_sub(x + SUB4 * j);
    most.scale = fmaxf(most.scale, lines[j].scale);
    most.minimum = fmaxf(most.minimum, lines[j].minimum);
  }
  round_k4(&block, most.scale / 63, most.minimum / 63);
  for (size_t j = 0; j < SUBS4; j++) {
    if (block.d > 0) block.sc[j] = clamped(lines[j].scale / block.d, 0, 63);
    if (block.dmin > 0) block.mn[j] = clamped(lines[j].minimum / block.dmin, 0, 63);
  }
  choose_block_l4(x, &block);
  struct k4 refitted = block;
  refit_k4(x, &refitted);
  choose_block_l4(x, &refitted);
  if (block_error(x, &refitted) < block_error(x, &block)) block = refitted;
  store_k4(&block, out);
  return isfinite(block.d) && isfinite(block.dmin);
}

bool xf_quantize_q4_k(size_t k, const float *x, unsigned char *out, float *scale)
{
  (void)scale;
  bool fits = true;
  for (size_t i = 0; i < k; i += BLOCK, out += 144) fits &= block_q4_k(x + i, out);
  return fits;
}
