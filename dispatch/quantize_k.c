/* ggml's "K" types: 256 weights with scales of their own for 32 or 16 of them. */
#include <math.h>
#include <string.h>

#include "dispatch/narrow.h"
#include "dispatch/quantize.h"
#include "dispatch/quantize_line.h"

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

/* ---- Q4_K, Q5_K: x = (d · sc) · l − dmin · mn, sc and mn of 6 bits for 32 weights ---- */

enum { SUB = XF_LINE_BLOCK, SUBS = BLOCK / SUB };

/* What a block of them holds. */
struct k_block {
  int bits; /* of l: 4 or 5 */
  float d, dmin;
  uint16_t halves[2];
  int sc[SUBS], mn[SUBS], l[BLOCK];
};

static struct xf_line line_of(const struct k_block *b, size_t sub)
{
  return (struct xf_line){b->d * (float)b->sc[sub], b->dmin * (float)b->mn[sub]};
}

static int most_of(const struct k_block *b)
{
  return (1 << b->bits) - 1;
}

static void round_lines(struct k_block *b, float d, float dmin)
{
  b->halves[0] = xf_round_f16(d, &b->d);
  b->halves[1] = xf_round_f16(dmin, &b->dmin);
}

static void choose_l(const float *x, struct k_block *b)
{
  for (size_t j = 0; j < SUBS; j++)
    xf_line_choose(x + SUB * j, line_of(b, j), most_of(b), b->l + SUB * j);
}

static float block_error(const float *x, const struct k_block *b)
{
  float error = 0;
  for (size_t j = 0; j < SUBS; j++)
    error += xf_line_error(x + SUB * j, line_of(b, j), b->l + SUB * j);
  return error;
}

/* d and dmin of least squares for the sc, mn and l there are. */
static void refit_lines(const float *x, struct k_block *b)
{
  double aa = 0, ab = 0, bb = 0, ax = 0, bx = 0;
  for (size_t i = 0; i < BLOCK; i++) {
    double a = b->sc[i / SUB] * b->l[i], m = -b->mn[i / SUB];
    aa += a * a;
    ab += a * m;
    bb += m * m;
    ax += a * (double)x[i];
    bx += m * (double)x[i];
  }
  double determinant = aa * bb - ab * ab;
  if (!(determinant > 0)) return;
  double d = (bb * ax - ab * bx) / determinant, dmin = (aa * bx - ab * ax) / determinant;
  if (d > 0 && dmin > 0) round_lines(b, (float)d, (float)dmin);
}

/* Eight pairs of 6 bits in 12 bytes: four whole ones, then four whose upper bits lie above them. */
static void store_scales(const struct k_block *b, unsigned char *s)
{
  for (size_t j = 0; j < 4; j++) {
    s[j] = (unsigned char)(b->sc[j] | b->sc[4 + j] >> 4 << 6);
    s[4 + j] = (unsigned char)(b->mn[j] | b->mn[4 + j] >> 4 << 6);
    s[8 + j] = (unsigned char)((b->sc[4 + j] & 15) | (b->mn[4 + j] & 15) << 4);
  }
}

/* d, dmin, the scales, of Q5_K the fifth bits (bit j of byte i: weight 32j + i), the nibbles. */
static void store_lines(const struct k_block *b, unsigned char *out)
{
  memcpy(out, b->halves, 4);
  store_scales(b, out + 4);
  out += 16;
  if (b->bits == 5) {
    memset(out, 0, SUB);
    for (size_t i = 0; i < BLOCK; i++) out[i % SUB] |= (unsigned char)(b->l[i] >> 4 << i / SUB);
    out += SUB;
  }
  for (size_t pair = 0; pair < SUBS / 2; pair++)
    for (size_t i = 0; i < SUB; i++) {
      const int *l = b->l + 2 * SUB * pair + i;
      out[SUB * pair + i] = (unsigned char)((l[0] & 15) | (l[SUB] & 15) << 4);
    }
}

static bool block_of_lines(const float *x, int bits, unsigned char *out)
{
  struct xf_line lines[SUBS], most = {0};
  struct k_block block = {.bits = bits};
  for (size_t j = 0; j < SUBS; j++) {
    lines[j] = xf_line_fit(x + SUB * j, (struct xf_line_form){most_of(&block), false});
    most.scale = fmaxf(most.scale, lines[j].scale);
    most.minimum = fmaxf(most.minimum, lines[j].minimum);
  }
  round_lines(&block, most.scale / 63, most.minimum / 63);
  for (size_t j = 0; j < SUBS; j++) {
    if (block.d > 0) block.sc[j] = clamped(lines[j].scale / block.d, 0, 63);
    if (block.dmin > 0) block.mn[j] = clamped(lines[j].minimum / block.dmin, 0, 63);
  }
  choose_l(x, &block);
  struct k_block refitted = block;
  refit_lines(x, &refitted);
  choose_l(x, &refitted);
  if (block_error(x, &refitted) < block_error(x, &block)) block = refitted;
  store_lines(&block, out);
  return isfinite(block.d) && isfinite(block.dmin);
}

bool xf_quantize_q4_k(size_t k, const float *x, unsigned char *out, float *scale)
{
  (void)scale;
  bool fits = true;
  for (size_t i = 0; i < k; i += BLOCK, out += 144) fits &= block_of_lines(x + i, 4, out);
  return fits;
}

bool xf_quantize_q5_k(size_t k, const float *x, unsigned char *out, float *scale)
{
  (void)scale;
  bool fits = true;
  for (size_t i = 0; i < k; i += BLOCK, out += 176) fits &= block_of_lines(x + i, 5, out);
  return fits;
}
