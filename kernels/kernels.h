/* The kernels of one ISA: one struct of function pointers. Each field carries its kernel's
 * contract; every ISA's kernel gives the bits of the scalar one (docs/numerics.md). Shapes are
 * row-major and counted in elements, "ld" is the distance between rows. No kernel allocates, fails,
 * reads past the elements named, or needs alignment beyond that of the element type. */
#ifndef XF_KERNELS_H
#define XF_KERNELS_H

#include <stdbool.h>

#include "exactflash/tensor.h"

enum {
  XF_LANES = 16,          /* virtual lanes of every vector, and columns of a weight panel */
  XF_BLOCK = 512,         /* k of one FMA chain in a linear layer; keys of one attention block */
  XF_ATTENTION_ROWS = 24, /* most query rows of one attention_block call */
  XF_HEAD_DIM_MAX = 256,  /* most columns of q, k or v */
  XF_NEAR_PANELS = 4,     /* panels that attention_block packs at once where k is rows */
  XF_WIDEN_PANELS = 4     /* panels that a linear kernel may widen at once */
};

/* Floats of scratch for a linear kernel. */
#define XF_LINEAR_SCRATCH ((size_t)XF_WIDEN_PANELS * XF_BLOCK * XF_LANES)

/* Bytes from a row of narrowed activations to the next: an odd number of lines, or the first cache
 * would have room for a few rows only where k is a power of two. */
static inline size_t xf_row_stride(size_t bytes)
{
  enum { LINE = 64 };
  return ((bytes + LINE - 1) / LINE | 1) * LINE;
}

/* y[r][c] = Σ_i x[r][i] · w[c][i] for r < rows, c < n. */
struct xf_linear_args {
  size_t rows, k, n; /* each ≥ 1 */
  const float *x;    /* [rows][k] */
  size_t ldx;
  const void *w; /* [ceil(n/16)][k][16] of the kernel's type; columns past n hold zeros */
  float *y;      /* [rows][n], may be uninitialised; must not overlap x */
  size_t ldy;
  float *scratch; /* [XF_LINEAR_SCRATCH] */
  bool far;       /* w comes from a cache that tiles should ask some k ahead */
};

/* One block of keys and values of one KV head, in panels of 16 keys. Pointers are to whole panels:
 * keys past the last visible one may hold anything, but must be readable. Elements of 16 bits are
 * widened exactly. Panels of XF_I8 begin with float [16], the scales of their keys, and an element
 * is (float)q · scale. */
struct xf_attention_args {
  xf_type type;          /* of k and v: XF_F32, XF_F16, XF_BF16, XF_I8 (k not as rows) */
  size_t rows;           /* 1 … XF_ATTENTION_ROWS query rows */
  size_t d_k, d_v;       /* head_dim of q and k, of v and out */
  const float *q;        /* [rows][d_k] */
  const size_t *first;   /* [rows] ≤ visible, or NULL: zeros; the row sees keys */
  const size_t *visible; /* [rows]: first … visible−1 of the block; may be none */
  const void *const *k;  /* [ceil(max visible / 16)] panels [d_k][16] */
  const void *const *v;  /* the same, panels [16][v_stride]; only visible rows are read */
  size_t v_stride;       /* ≥ d_v rounded up to 16; columns past d_v hold zeros */
  size_t k_stride;       /* not 0: k points to rows instead, [16][k_stride], read like v's */
  bool fresh;            /* these rows are the first to read them: they may come from memory */
  bool far;      /* tiles should ask: if fresh, only the second cache, else some keys ahead */
  float *packed; /* [XF_NEAR_PANELS][d_k][16] scratch, where k is rows */
  float c;       /* scale · log2 e, finite and > 0; log2 e where they are adjusted */
  /* Adjusted scores t take the place of s: first, with soft_cap, s = soft_cap · tanh(s · (scale /
   * soft_cap)); then, with bias, t = fma(s, scale, bias), where scale counts as 1 after a soft_cap,
   * but for −inf at least −2¹²⁶. */
  float scale, soft_cap; /* soft_cap 0: none */
  const float *bias;     /* [rows][ldb]; −inf masks a key; NULL: none */
  size_t ldb;
  float *s; /* [rows][lds] scratch for scores; lds ≥ max visible rounded up to 16 */
  size_t lds;
  float *m;   /* out [rows]: block maximum · c, 0 where there is none */
  float *l;   /* out [rows]: Σ p, 0 where nothing is visible */
  float *acc; /* out [rows][d_v rounded up to 16]: Σ p·v; untouched where visible is 0 */
};

struct xf_quant_kernels; /* kernels/quant.h */

struct xf_kernels {
  const char *name;
  /* Linear layers of 8- and 4-bit weights. */
  const struct xf_quant_kernels *quant;

  /* Linear layers; the w of linear_f32 is float, of the others uint16_t. */
  void (*linear_f32)(const struct xf_linear_args *a);
  void (*linear_f16)(const struct xf_linear_args *a);
  void (*linear_bf16)(const struct xf_linear_args *a);
  /* The same over the binary32 values of 8- and 4-bit weights; w: panels of that type
   * (kernels/quant.h). */
  void (*linear_widened)(xf_type type, const struct xf_linear_args *a);

  /* Exact conversion of n elements. */
  void (*widen_f16)(size_t n, const uint16_t *x, float *y);
  void (*widen_bf16)(size_t n, const uint16_t *x, float *y);
  /* y[i] = (float)x[i] · scale. */
  void (*widen_i8)(size_t n, const int8_t *x, float scale, float *y);
  /* y[i][lane] = (float)x[i][lane] · scale[lane], i < n, 16 lanes. */
  void (*widen_i8_panel)(size_t n, const int8_t *x, const float *scale, float *y);

  /* x[i] = x[i] + y[i]. */
  void (*add)(size_t n, float *x, const float *y);

  /* y[i] = (x[i] · r) · w[i], r = 1 / sqrt(Σ x² / n + eps). y may be x. */
  void (*rms_norm)(size_t n, const float *x, const float *w, float eps, float *y);

  /* cos_out[i] = cos(pos · inv_freq[i]), likewise sin_out; the angle is rounded to float first. */
  void (*rope_angles)(size_t half, float pos, const float *inv_freq, float *cos_out,
                      float *sin_out);
  /* Rotates the pairs (x[i], x[i + half]) of one head, in place. */
  void (*rope)(size_t half, const float *cos_in, const float *sin_in, float *x);

  /* y[i] = gate[i] / (1 + exp(−gate[i])) · up[i]. y may be gate or up. */
  void (*silu_mul)(size_t n, const float *gate, const float *up, float *y);

  /* The lowest index of the greatest element; NaN is less than everything; 0 where all are NaN or
   * n is 0. */
  size_t (*arg_max)(size_t n, const float *x);

  /* p[i] = 2^(fma(x[i], c, −max(x)·c)), NaN and −inf left out of max(x); returns Σ p. With
   * c = log2 e / temperature this is softmax before its division. p may be x. */
  float (*softmax)(size_t n, const float *x, float c, float *p);

  /* panel[j][i] = rows[i][j] for i < 16, j < d. panel: [d][16]. */
  void (*pack_panel)(size_t d, const float *const *rows, float *panel);
  /* Partial attention of a few query rows over one block of keys. */
  void (*attention_block)(const struct xf_attention_args *a);
  /* Folds one row's partial (m_b, l_b, acc_b) into its running state (m, l, acc); acc is [d_v] and
   * uninitialised while *l is 0. */
  void (*attention_merge)(size_t d_v, float *m, float *l, float *acc, float m_b, float l_b,
                          const float *acc_b);
  /* out = acc / l, zeros where l is 0; out may be acc. */
  void (*attention_finish)(size_t d_v, float l, const float *acc, float *out);
  /* log(Σ exp(score)) of a row's state; −inf where l is 0. */
  float (*log_sum_exp)(float m, float l);
};

/* Variants of an ISA differ in `quant` only. */
extern const struct xf_kernels xf_kernels_scalar;
extern const struct xf_kernels xf_kernels_avx2, xf_kernels_avx2vnni;
extern const struct xf_kernels xf_kernels_avx512, xf_kernels_avx512vnni, xf_kernels_avx512amx;
extern const struct xf_kernels xf_kernels_neon, xf_kernels_neondot, xf_kernels_neoni8mm;

#endif
