#include "dispatch/numerics_check.h"

#include <math.h>
#include <string.h>

#include "dispatch/error.h"
#include "dispatch/memory.h"
#include "kernels/quant.h"

enum { N = 16 };

/* Arguments across the ranges that the functions take: RoPE angles, gates, row sums. */
static const float angles[N] = {0x1p-20f, 0.25f,    1.0f,      1.5707964f, 3.1415927f, 6.5f,
                                39.3f,    100.0f,   125.1f,    1000.5f,    2047.0f,    8191.75f,
                                39000.0f, 65535.0f, 100000.5f, 131071.0f};
static const float gates[N] = {-87.0f, -20.5f, -10.0f, -3.3f,  -1.0f,   -0.5f, -0x1p-6f, 0x1p-12f,
                               0.125f, 0.7f,   1.0f,   2.718f, 5.4321f, 17.0f, 60.0f,    88.5f};

static const uint32_t cos_bits[N] = {
    0x3f800000, 0x3f780aa5, 0x3f0a5141, 0xb33bbd2e, 0xbf800000, 0x3f7a01a6, 0xbcf67805, 0x3f5cc0ee,
    0x3f586442, 0x3dc6dffc, 0x3e7fb55b, 0x3d411414, 0x3f76cea6, 0x3e44f5d5, 0xbf64e7b4, 0xbf51675e};
static const uint32_t sin_bits[N] = {
    0x35800000, 0x3e7d5777, 0x3f576aa4, 0x3f800000, 0xb3bbbd2e, 0x3e5c486a, 0x3f7fe255, 0xbf01a12e,
    0xbf08c973, 0x3f7eca46, 0xbf77e3c6, 0xbf7fb726, 0x3e87f933, 0x3f7b3849, 0xbee53f0a, 0xbf13430a};
static const uint32_t silu_bits[N] = {
    0x83f39e20, 0xb2dc24dc, 0xb9ee03fe, 0xbdf06782, 0xbe89b2b1, 0xbe414d03, 0xbbfe0004, 0x39000400,
    0x3d87fd57, 0x3eef7a7e, 0x3f3b26a8, 0x40232e54, 0x40ad11f9, 0x41880000, 0x42700000, 0x42b10000};
static const uint32_t lse_bits[N] = {
    0xc15dce9e, 0xbfb17218, 0x00000000, 0x3ee735da, 0x3f928683, 0x3fef9737, 0x406af558, 0x40935d8e,
    0x409a8819, 0x40dd106d, 0x40f3f8e1, 0x41102c93, 0x4129241d, 0x41317208, 0x413834f7, 0x413c8931};

static const uint32_t tanh_bits[N] = {
    0x3e0a9555, 0x3e0a9555, 0x3e0a9555, 0x3e0af5dc, 0x3e2fe4b1, 0x3e6d4e98, 0x3eb96f31, 0x3ebc6678,
    0x3ed54b99, 0x3f2c5a64, 0x3f49b2b1, 0x3f7dc9e0, 0x3f7ffd7e, 0x3f800000, 0x3f800000, 0x3f800000};

static xf_status compare(const char *function, const float *got, const uint32_t *expected,
                         const char *isa, xf_error *error)
{
  for (int i = 0; i < N; i++) {
    uint32_t bits;
    memcpy(&bits, &got[i], sizeof bits);
    if (bits != expected[i])
      return xf_fail(error, XF_E_UNSUPPORTED,
                     "the linked SLEEF gives other bits than numerics %u for %s on %s (%08x, not "
                     "%08x); link a SLEEF with deterministic FMA functions, 3.5 or later",
                     xf_numerics_version(), function, isa, bits, expected[i]);
  }
  return XF_OK;
}

/* A linear layer of 8-bit weights, as large as the tallest tile of any ISA. */
enum { ROWS = 32, K = 64, PANELS = 2, PANEL_BYTES = K * XF_LANES + XF_QUANT_ALIGN };

struct products {
  float y[ROWS][PANELS * XF_LANES];
};

struct results {
  const struct xf_kernels *kernels;
  float cos[N], sin[N], silu[N], lse[N], tanh[N];
  struct products i8_row, q8_0;
  float *scratch; /* of a linear kernel */
};

/* What the softmax of sixteen keys makes of tanh: scores are the gates, capped to 1. */
static void evaluate_tanh(const struct xf_kernels *kernels, float *p)
{
  static const float zeros[N * XF_LANES];
  const void *k = gates, *v = zeros;
  float q = 1, m, l, acc[XF_LANES];
  const size_t visible = N;
  struct xf_attention_args a = {.type = XF_F32,
                                .rows = 1,
                                .d_k = 1,
                                .d_v = 1,
                                .q = &q,
                                .visible = &visible,
                                .k = &k,
                                .v = &v,
                                .v_stride = XF_LANES,
                                .c = 0x1.715476p+0f,
                                .scale = 1,
                                .soft_cap = 1,
                                .s = p,
                                .lds = N,
                                .m = &m,
                                .l = &l,
                                .acc = acc};
  kernels->attention_block(&a);
}

/* Products of all signed by all unsigned numbers there are. Scales are 1 and sums exact, so that
 * all types give the same. */
static void evaluate_products(const struct xf_kernels *kernels, xf_type type, float *scratch,
                              struct products *out)
{
  _Alignas(XF_QUANT_ALIGN) unsigned char w[PANELS][PANEL_BYTES];
  int8_t q[ROWS][K]; /* K is xf_quant_ldq(K) */
  int16_t sums[ROWS][K / 16] = {{0}};
  int32_t totals[ROWS] = {0};
  float d[ROWS][K / XF_QUANT_CHUNK];
  const float one = 1;
  const uint16_t half_one = 0x3C00;
  for (size_t p = 0; p < PANELS; p++) {
    for (size_t i = 0; i < K * XF_LANES; i++) w[p][i] = (unsigned char)(i * 73 + p * 29);
    unsigned char *record = w[p] + K * XF_LANES; /* 16 of f32, or two times 16 of f16 */
    for (size_t i = 0; i < XF_QUANT_ALIGN; i += type == XF_I8_ROW ? 4 : 2)
      memcpy(record + i, type == XF_I8_ROW ? (const void *)&one : &half_one,
             type == XF_I8_ROW ? sizeof one : sizeof half_one);
  }
  for (size_t r = 0; r < ROWS; r++) {
    for (size_t i = 0; i < K; i++) {
      q[r][i] = (int8_t)((int)((r * 37 + i * 11) % 255) - 127);
      sums[r][i / 16] = (int16_t)(sums[r][i / 16] + q[r][i]);
      totals[r] += q[r][i];
    }
    for (size_t i = 0; i < K / XF_QUANT_CHUNK; i++) d[r][i] = 1;
  }
  kernels->quant->linear(&(struct xf_quant_args){.type = type,
                                                 .rows = ROWS,
                                                 .k = K,
                                                 .n = PANELS * XF_LANES,
                                                 .x = {q[0], d[0], sums[0], totals},
                                                 .w = w,
                                                 .y = out->y[0],
                                                 .ldy = PANELS * XF_LANES,
                                                 .scratch = scratch});
}

static void evaluate(void *arg, size_t slot, size_t item)
{
  (void)slot, (void)item;
  struct results *r = arg;
  const float ones[N] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
  r->kernels->rope_angles(N, 1.0f, angles, r->cos, r->sin);
  r->kernels->silu_mul(N, gates, ones, r->silu);
  evaluate_tanh(r->kernels, r->tanh);
  for (int i = 0; i < N; i++) r->lse[i] = r->kernels->log_sum_exp(0.0f, angles[i]);
  evaluate_products(r->kernels, XF_I8_ROW, r->scratch, &r->i8_row);
  evaluate_products(r->kernels, XF_Q8_0, r->scratch, &r->q8_0);
}

/* Instructions for 8-bit products differ from CPU to CPU in which factor has a sign. */
static xf_status compare_products(const struct results *r, xf_error *error)
{
  struct products want;
  evaluate_products(&xf_kernels_scalar, XF_I8_ROW, r->scratch, &want);
  if (memcmp(&want, &r->i8_row, sizeof want) == 0 && memcmp(&want, &r->q8_0, sizeof want) == 0)
    return XF_OK;
  return xf_fail(error, XF_E_UNSUPPORTED,
                 "8-bit products on %s are not what they should be on this CPU; choose another "
                 "instruction set (XF_ISA)",
                 r->kernels->name);
}

xf_status xf_numerics_check(const xf_context *context, xf_error *error)
{
  struct results r = {.kernels = context->kernels,
                      .scratch = xf_alloc(XF_LINEAR_SCRATCH, sizeof(float))};
  if (!r.scratch) return xf_fail(error, XF_E_MEMORY, "numerics check: out of memory");
  const xf_context alone = {.kernels = context->kernels, .threads = 1};
  xf_parallel(&alone, 1, evaluate, &r);
  const char *isa = context->kernels->name;
  xf_status status = compare("cosf", r.cos, cos_bits, isa, error);
  if (!status) status = compare("sinf", r.sin, sin_bits, isa, error);
  if (!status) status = compare("expf", r.silu, silu_bits, isa, error);
  if (!status) status = compare("logf", r.lse, lse_bits, isa, error);
  if (!status) status = compare("tanhf", r.tanh, tanh_bits, isa, error);
  if (!status) status = compare_products(&r, error);
  xf_free(r.scratch);
  return status;
}
