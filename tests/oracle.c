#include "tests/oracle.h"

#include <math.h>
#include <stdbool.h>

/* u: the relative error of one rounding to nearest; every basic operation gives x·(1+δ), |δ| ≤ u,
 * or, where the result is subnormal, x + η with |η| ≤ TINY (Higham 2002, "Accuracy and Stability of
 * Numerical Algorithms", chapters 2 and 3, from which gamma(n) and its rules are). Doubles are
 * taken as exact: their u is 2⁻²⁹ of ours, far below the slack in gamma. */
#define U    0x1p-24
#define TINY 0x1p-150
#define LN2  0.69314718055994530942

enum { BLOCK = 512 };

/* n roundings in a row: the product of n factors (1+δ) is 1+θ with |θ| ≤ gamma(n). */
static double gamma_n(size_t n)
{
  double nu = (double)n * U;
  return nu / (1 - nu);
}

/* Numerics 1's E, relative: 1.0145 ULP (test_exp2 --all), and an ULP is at most 2u of the value. */
#define E_ERROR (1.0145 * 2 * U)
/* SLEEF u10, relative: one ULP. */
#define SLEEF_ERROR (2 * U)
/* E flushes to 0 what is below 2⁻¹²⁶·⁵, and subnormal results round by at most as much. */
#define E_FLUSH 0x1p-126

/* A term x·w of a block of b ≤ 512 goes through at most b FMAs and then through at most
 * ceil(k/512) − 1 additions of block sums: |ŷ − y| ≤ gamma(b + blocks) Σ |x·w|. Every FMA may also
 * lose TINY by underflow. */
struct estimate oracle_linear(size_t k, const float *x, const float *w, size_t stride)
{
  double sum = 0, magnitude = 0;
  for (size_t i = 0; i < k; i++) {
    double term = (double)x[i] * (double)w[i * stride];
    sum += term;
    magnitude += fabs(term);
  }
  size_t chain = (k < BLOCK ? k : BLOCK) + (k + BLOCK - 1) / BLOCK;
  return (struct estimate){sum, gamma_n(chain) * magnitude + (double)k * TINY * 2};
}

/* Squares are positive, so their sum has a relative error of at most gamma(ceil(n/64) + 6): an FMA
 * for each element of a lane, six levels of the tree. Division and + eps add one rounding each; the
 * square root halves what came before and adds one; 1/…, ·x and ·w one each. */
struct estimate oracle_rms_norm(size_t n, const float *x, float eps, float x_i, float w_i)
{
  double sum = 0;
  for (size_t i = 0; i < n; i++) sum += (double)x[i] * (double)x[i];
  double y = (double)x_i / sqrt(sum / (double)n + (double)eps) * (double)w_i;
  size_t roundings = (n + 63) / 64 + 6 + 2;
  return (struct estimate){y, (gamma_n(roundings) / 2 + gamma_n(4)) * fabs(y) +
                                  TINY * (1 + fabs((double)w_i))};
}

/* exp within one ULP (2u relative); 1 + e passes on at most that and rounds; the quotient and the
 * product round: 2u + 3u, one more u for second-order terms. Where exp overflows (gate < −88.7) the
 * result is 0 instead of at most 88.8·exp(−88.7) < 2⁻¹²¹. */
struct estimate oracle_silu_mul(float gate, float up)
{
  double g = (double)gate, u = (double)up;
  double y = g / (1 + exp(-g)) * u;
  double overflow = g < -88.7 ? 0x1p-121 * fabs(u) : 0;
  return (struct estimate){y, 6 * U * fabs(y) + overflow + TINY * (1 + fabs(u))};
}

/* SLEEF's claim: one ULP of the result. */
struct estimate oracle_angle(float angle, int sine)
{
  double y = sine ? sin((double)angle) : cos((double)angle);
  return (struct estimate){y, SLEEF_ERROR * fabs(y) + 2 * TINY};
}

/* fma(a, cos, −(b·sin)): the product b·sin rounds once, the sum once. */
struct estimate oracle_rotated(float a, float b, float cosine, float sine)
{
  double product = (double)b * (double)sine, y = (double)a * (double)cosine - product;
  return (struct estimate){y, U * fabs(product) + U * (fabs(y) + U * fabs(product)) + 2 * TINY};
}

/* The exponent of 2 is fma(x, c, −M), M = top·c: M rounds by u·|M|, the FMA by u times its result.
 * E adds its own error. exp2 turns an absolute error δ of the exponent into 2^δ − 1. */
struct estimate oracle_softmax(float x_i, float top, float c)
{
  double exponent = ((double)x_i - (double)top) * (double)c;
  double shift = U * fabs((double)top * (double)c) + TINY;
  double error = expm1((U * (fabs(exponent) + shift) + shift) * LN2);
  double y = exp2(exponent);
  return (struct estimate){y, y * (error + E_ERROR * (1 + error)) + E_FLUSH * (1 + error)};
}

static bool hides(const struct attention_row *row, size_t j)
{
  return j < row->first || (row->mask && row->mask[j] == -INFINITY);
}

/* cap · tanh(s / cap) for a score that errs by *error: the ratio scale / cap and its product with s
 * round; tanh rises, so that it maps the ends of an interval to the ends; it errs by one ULP, and
 * the product with cap rounds. */
static double capped_score(double score, double cap, double *error)
{
  double x = fabs(score) / cap, reach = (*error + gamma_n(2) * (fabs(score) + *error)) / cap;
  double spread = cap * (tanh(x + reach) - tanh(x - reach)), y = cap * tanh(score / cap);
  *error = spread + (SLEEF_ERROR + 2 * U) * (fabs(y) + spread) + 2 * cap * TINY;
  return y;
}

/* A natural-log score and its absolute error. The chain over d_k terms errs by
 * gamma(d_k) Σ |q·k|. Bias: distances are exact (below 2²⁴); their product with the slope, the sum
 * with the mask's value and the FMA that adds the bias to the score round once each. */
static double score_of(const struct attention_row *row, double scale, size_t j, double *error)
{
  double score = 0, magnitude = 0;
  for (size_t d = 0; d < row->d_k; d++) {
    double term = (double)row->q[d] * (double)row->k[j * row->ldk + d];
    score += term;
    magnitude += fabs(term);
  }
  score *= scale;
  *error = fabs(scale) * (gamma_n(row->d_k) * magnitude + (double)row->d_k * TINY * 2);
  if (row->soft_cap != 0) score = capped_score(score, (double)row->soft_cap, error);
  if (!row->mask && !row->slope) return score;
  double slope = row->slope ? (double)*row->slope : 0, mask = row->mask ? (double)row->mask[j] : 0;
  double alibi = slope * (double)((ptrdiff_t)j - row->position), bias = mask + alibi;
  score += bias;
  *error += gamma_n(2) * (fabs(alibi) + fabs(bias) + fabs(score) + *error);
  return score;
}

/* The relative error of p for a score and its absolute error: c errs by 2u of itself (its effect on
 * the score's distance from the maximum is bounded by that on |score| + |top|; a bound of the
 * log-sum-exp needs it in full anyway); the FMA errs by u·|x|, x the distance from the block's
 * maximum, beyond 90 p is flushed; rounding M_b cancels, since M_b itself, not its exact value, is
 * what p and the merge refer to. M_b of another block may be below top; its distance to m' goes
 * through one subtraction and E. */
static double weight_error(double score, double error, double top)
{
  double absolute = error + gamma_n(2) * fabs(score), distance = fmin(top - score, 90);
  absolute += U * (distance + absolute);
  absolute += U * distance + E_ERROR;
  return expm1(absolute) + E_ERROR;
}

/* The weights of a row, relative to its greatest score. */
struct weights {
  double *p, *error; /* [n] each; p is 0 where a key is not seen */
  double top, sum, wrong;
  double sink, sink_error; /* the weight of the sink */
};

/* A sink is one more key, whose score is exact and whose value is zero. */
static struct weights weights_of(const struct attention_row *row, double scale, double *scratch)
{
  struct weights w = {.p = scratch, .error = scratch + row->n, .top = -INFINITY};
  if (row->sink) w.top = (double)*row->sink;
  for (size_t j = 0; j < row->n; j++) {
    if (hides(row, j)) continue;
    w.p[j] = score_of(row, scale, j, &w.error[j]);
    w.top = fmax(w.top, w.p[j]);
  }
  for (size_t j = 0; j < row->n; j++) {
    w.error[j] = hides(row, j) ? 0 : weight_error(w.p[j], w.error[j], w.top);
    w.p[j] = hides(row, j) ? 0 : exp(w.p[j] - w.top);
    w.sum += w.p[j];
    w.wrong += w.p[j] * w.error[j];
  }
  if (row->sink) {
    w.sink = exp((double)*row->sink - w.top);
    w.sink_error = weight_error((double)*row->sink, 0, w.top);
    w.sum += w.sink;
    w.wrong += w.sink * w.sink_error;
  }
  return w;
}

/* Column d of out, Σ p·v / Σ p; *spread = Σ p_j |ε_j| |v_j − out|, *magnitude = Σ p |v| / Σ p. */
static double column_of(const struct attention_row *row, const struct weights *w, size_t d,
                        double *spread, double *magnitude, double *greatest)
{
  double mean = 0;
  *magnitude = *greatest = 0;
  for (size_t j = 0; j < row->n; j++) {
    if (hides(row, j)) continue;
    double v = (double)row->v[j * row->ldv + d];
    mean += w->p[j] * v / w->sum;
    *magnitude += w->p[j] * fabs(v) / w->sum;
    *greatest = fmax(*greatest, fabs(v));
  }
  *spread = w->sink * w->sink_error * fabs(mean) / w->sum;
  for (size_t j = 0; j < row->n; j++) {
    if (hides(row, j)) continue;
    *spread += w->p[j] * w->error[j] * fabs((double)row->v[j * row->ldv + d] - mean) / w->sum;
  }
  return mean;
}

/* out = Σ p·v / Σ p. With p̂_j = p_j (1 + ε_j):
 *   |Σ p̂v/Σ p̂ − out| ≤ Σ p_j |ε_j| |v_j − out| / Σ p̂, first-order in ε, exact with the quotient
 * below; the chain of acc: gamma(block), each merge (the sink's too) two roundings and the error of
 * E on either side, the row reduction gamma(block / 64 + 6) on l, the final 1/l and product two
 * more. */
void oracle_attention(const struct attention_row *row, double scale, size_t block, double *weights,
                      struct estimate *out, struct estimate *lse)
{
  size_t n = row->n;
  struct weights w = weights_of(row, scale, weights);
  *lse = (struct estimate){-INFINITY, 0};
  for (size_t d = 0; d < row->d_v; d++) out[d] = (struct estimate){0, 0};
  if (w.sum == 0) return;
  size_t merges = (n + block - 1) / block + (row->sink != NULL);
  size_t chain = n < block ? n : block, tree = chain / 64 + 7;
  double merge = (double)merges * (2 * U + 2 * E_ERROR + 2 * U);
  double l_error = w.wrong / w.sum + gamma_n(tree) + merge;
  double worst = 1 / (1 - fmin(l_error, 0.5)), flush = E_FLUSH * (double)(n + merges);
  for (size_t d = 0; d < row->d_v; d++) {
    double spread, magnitude, greatest;
    out[d].value = column_of(row, &w, d, &spread, &magnitude, &greatest);
    double rounding = (gamma_n(chain) + gamma_n(tree) + 2 * merge + gamma_n(3)) * magnitude;
    out[d].bound =
        (spread + rounding * (1 + l_error)) * worst + flush * greatest + (double)(n + 2) * TINY;
  }
  /* fma(m, ln 2, log l): m carries the score's error (it is one of them), log turns relative into
   * absolute errors; ln 2, m and the log round, the FMA rounds. */
  lse->value = w.top + log(w.sum);
  lse->bound = -log1p(-fmin(l_error, 0.9)) + 3 * U * (fabs(w.top) + fabs(lse->value)) +
               3 * U * log((double)n + 1 + merges) + flush;
}
