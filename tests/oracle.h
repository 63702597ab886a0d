/* Two references for the kernels. "numerics_" functions are docs/numerics.md once more, one element
 * at a time: the kernels must give their bits. "oracle_" functions are the mathematics in double
 * precision, with a bound for the rounding errors of numerics 1 derived beside each. */
#ifndef XF_TESTS_ORACLE_H
#define XF_TESTS_ORACLE_H

#include <stddef.h>
#include <stdint.h>

float numerics_exp2(float x);
/* Row reduction: element i into sum i mod 64, then the tree. */
float numerics_sum(size_t n, const float *x);
/* One output of a linear layer; w[i · stride]. */
float numerics_linear(size_t k, const float *x, const float *w, size_t stride);
float numerics_rms(size_t n, const float *x, float eps); /* 1 / sqrt(Σ x² / n + eps) */
/* A row as 8-bit activations and caches have it: its q, and their scale. */
float numerics_quantize(size_t n, const float *x, int8_t *q);

/* One query row over n keys: k [n][ldk], v [n][ldv]. Zeros in the later fields mean none. */
struct attention_row {
  size_t d_k, d_v, n;
  const float *q, *k, *v;
  size_t ldk, ldv;
  float c;               /* scale · log2 e, of unadjusted scores */
  size_t first;          /* keys in front of it are not seen */
  float scale, soft_cap; /* of adjusted scores */
  const float *mask;     /* [n], added to scores; −inf hides a key */
  const float *slope;    /* ALiBi: slope · (key − position) is added; NULL: none */
  ptrdiff_t position;
  const float *sink;
};

/* One block (n ≤ 512) without a soft cap: p is scratch [n]. Scores must be finite. acc is left
 * alone where nothing is seen; then l is 0. */
void numerics_block(const struct attention_row *row, float *p, float *m, float *l, float *acc);
void numerics_merge(size_t d_v, float *m, float *l, float *acc, float m_b, float l_b,
                    const float *acc_b);
/* All blocks, the sink and the division: out [d_v], d_v ≤ 256. */
void numerics_attention(const struct attention_row *row, float *out);

struct estimate {
  double value, bound;
};

struct estimate oracle_linear(size_t k, const float *x, const float *w, size_t stride);
struct estimate oracle_rms_norm(size_t n, const float *x, float eps, float x_i, float w_i);
struct estimate oracle_silu_mul(float gate, float up);
/* cos (sine = 0) or sin (sine = 1) of a float angle. */
struct estimate oracle_angle(float angle, int sine);
/* a·cos − b·sin of a rotated pair; its partner is oracle_rotated(b, −a, …). */
struct estimate oracle_rotated(float a, float b, float cosine, float sine);
/* Softmax before its division: 2^((x_i − top) · c). */
struct estimate oracle_softmax(float x_i, float top, float c);

/* Attention over the keys that the row sees, in blocks of `block` (512, or n for standard
 * attention): out [d_v] with bounds, and the log-sum-exp. K and V of other keys may be anything.
 * weights is scratch [2 · n]. */
void oracle_attention(const struct attention_row *row, double scale, size_t block, double *weights,
                      struct estimate *out, struct estimate *lse);

#endif
