#include "cli/logprob.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

/* ln 2 in two parts: multiples of the first up to 2^20 are exact. */
#define LN2_HIGH 0x1.62e42feep-1
#define LN2_LOW  0x1.a39ef35793c76p-33
#define LOG2_E   0x1.71547652b82fep+0
/* Adding it rounds to an integer, which is then in the low bits. */
#define ROUNDER 0x1.8p52

enum { SUMS = 8 };

/* 2^n · (Taylor's series of exp(r)) with x = n ln 2 + r, |r| ≤ ln 2 / 2. Without branches, so that
 * compilers make vectors of it. */
double xf_cli_exp(double x)
{
  x = x < -700 ? -700 : x;
  x = x > 700 ? 700 : x;
  double shifted = x * LOG2_E + ROUNDER, n = shifted - ROUNDER;
  double r = (x - n * LN2_HIGH) - n * LN2_LOW, p = 1.0 / 6227020800;
  p = p * r + 1.0 / 479001600;
  p = p * r + 1.0 / 39916800;
  p = p * r + 1.0 / 3628800;
  p = p * r + 1.0 / 362880;
  p = p * r + 1.0 / 40320;
  p = p * r + 1.0 / 5040;
  p = p * r + 1.0 / 720;
  p = p * r + 1.0 / 120;
  p = p * r + 1.0 / 24;
  p = p * r + 1.0 / 6;
  p = p * r + 1.0 / 2;
  p = p * r + 1;
  p = p * r + 1;
  uint64_t bits;
  double scale;
  memcpy(&bits, &shifted, sizeof bits);
  bits = (bits + 1023) << 52;
  memcpy(&scale, &bits, sizeof scale);
  return p * scale;
}

/* Of a finite x ≥ 1: x = 2^n · m with √½ ≤ m < √2, and log m = 2 artanh((m − 1) / (m + 1)). */
static double log_of(double x)
{
  int n;
  double m = frexp(x, &n);
  if (m < 0x1.6a09e667f3bcdp-1) {
    m *= 2;
    n--;
  }
  double s = (m - 1) / (m + 1), z = s * s, p = 0;
  for (int k = 11; k >= 0; k--) p = p * z + 1.0 / (2 * k + 1);
  return n * LN2_HIGH + (2 * s * p + n * LN2_LOW);
}

double xf_cli_logprob(const float *logits, size_t n, size_t target)
{
  float most = logits[0];
  for (size_t i = 1; i < n; i++) most = logits[i] > most ? logits[i] : most;
  double sums[SUMS] = {0}, largest = (double)most;
  size_t i = 0;
  for (; i + SUMS <= n; i += SUMS)
    for (size_t j = 0; j < SUMS; j++) sums[j] += xf_cli_exp((double)logits[i + j] - largest);
  for (size_t j = 0; i + j < n; j++) sums[j] += xf_cli_exp((double)logits[i + j] - largest);
  double sum =
      ((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7]));
  if (!isfinite(sum)) return (double)NAN;
  return ((double)logits[target] - largest) - log_of(sum);
}
