/* The attention kernel over one block of keys. Its partials' merge is test_attention_merge.c. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/compare.h"
#include "tests/isas.h"
#include "tests/oracle.h"

enum {
  MOST_D = 256,
  MOST_ACC = XF_ATTENTION_ROWS * MOST_D,
  MOST_PANELS = XF_BLOCK / XF_LANES,
  MOST_STRIDE = MOST_D + 16
};

/* One block in plain memory, row by row; keys and values past `keys` are garbage. K and V are exact
 * in `type`, as which panels may hold them: XF_I8 as scale · q. */
struct block {
  xf_type type;
  size_t rows, d_k, d_v, keys, v_stride, lds, shift;
  size_t visible[XF_ATTENTION_ROWS];
  float c;
  float q[MOST_ACC], k[XF_BLOCK * MOST_D], v[XF_BLOCK * MOST_D];
  int8_t kq[XF_BLOCK * MOST_D], vq[XF_BLOCK * MOST_D];
  float k_scale[XF_BLOCK], v_scale[XF_BLOCK];
};

/* What a kernel gave for it. */
struct result {
  float m[XF_ATTENTION_ROWS], l[XF_ATTENTION_ROWS], acc[MOST_ACC];
};

static struct arena q_arena, s_arena, m_arena, l_arena, acc_arena, visible_arena, packed_arena;
static struct arena k_arenas[MOST_PANELS], v_arenas[MOST_PANELS];

static int set_up(void **state)
{
  (void)state;
  q_arena = arena_new(MOST_ACC + 1);
  s_arena = arena_new((size_t)XF_ATTENTION_ROWS * (XF_BLOCK + 32) + 1);
  m_arena = arena_new(XF_ATTENTION_ROWS + 1);
  l_arena = arena_new(XF_ATTENTION_ROWS + 1);
  acc_arena = arena_new(MOST_ACC + 1);
  visible_arena = arena_new((size_t)4 * XF_ATTENTION_ROWS);
  packed_arena = arena_new((size_t)XF_NEAR_PANELS * MOST_D * XF_LANES + 1);
  for (size_t i = 0; i < MOST_PANELS; i++) {
    k_arenas[i] = arena_new((size_t)MOST_STRIDE * XF_LANES + 1);
    v_arenas[i] = arena_new((size_t)MOST_STRIDE * XF_LANES + 1);
  }
  return 0;
}

static int tear_down(void **state)
{
  (void)state;
  struct arena *arenas[] = {&q_arena,   &s_arena,       &m_arena,     &l_arena,
                            &acc_arena, &visible_arena, &packed_arena};
  for (size_t i = 0; i < sizeof arenas / sizeof *arenas; i++) arena_free(arenas[i]);
  for (size_t i = 0; i < MOST_PANELS; i++) arena_free(&k_arenas[i]), arena_free(&v_arenas[i]);
  return 0;
}

static size_t acc_width(const struct block *b)
{
  return (b->d_v + XF_LANES - 1) / XF_LANES * XF_LANES;
}

/* K and V of the block in panels, each panel at a guard page of its own. */
static void pack(const struct block *b, xf_type type, const void **k, const void **v)
{
  size_t size = xf_type_size(type);
  for (size_t p = 0; p * XF_LANES < b->keys; p++) {
    char *kp = arena_cut(&k_arenas[p], b->d_k * XF_LANES, size, b->shift);
    char *vp = arena_cut(&v_arenas[p], b->v_stride * XF_LANES, size, b->shift);
    memset(vp, 0, b->v_stride * XF_LANES * size);
    for (size_t lane = 0; lane < XF_LANES; lane++) {
      size_t key = p * XF_LANES + lane;
      for (size_t d = 0; d < b->d_k; d++)
        put_as(type, b->k[key * b->d_k + d], kp + (d * XF_LANES + lane) * size);
      for (size_t d = 0; d < b->d_v; d++)
        put_as(type, b->v[key * b->d_v + d], vp + (lane * b->v_stride + d) * size);
    }
    k[p] = kp, v[p] = vp;
  }
}

/* The same with bytes. Keys that no row may see: NaN. */
static void pack_bytes(const struct block *b, xf_type type, const void **k, const void **v)
{
  (void)type;
  for (size_t p = 0; p * XF_LANES < b->keys; p++) {
    float *kp = arena_cut(&k_arenas[p], (b->d_k + 4) * 4, 4, b->shift);
    float *vp = arena_cut(&v_arenas[p], (b->v_stride + 4) * 4, 4, b->shift);
    int8_t *kq = (int8_t *)(kp + XF_LANES), *vq = (int8_t *)(vp + XF_LANES);
    memset(vq, 0, b->v_stride * XF_LANES);
    for (size_t lane = 0; lane < XF_LANES; lane++) {
      size_t key = p * XF_LANES + lane;
      kp[lane] = key < b->keys ? b->k_scale[key] : NAN;
      vp[lane] = key < b->keys ? b->v_scale[key] : NAN;
      for (size_t d = 0; d < b->d_k; d++) kq[d * XF_LANES + lane] = b->kq[key * b->d_k + d];
      memcpy(vq + lane * b->v_stride, b->vq + key * b->d_v, b->d_v);
    }
    k[p] = kp, v[p] = vp;
  }
}

/* K as rows k_stride elements apart, each 16 at a guard page. */
static void lay_out_rows(const struct block *b, xf_type type, size_t k_stride, const void **k)
{
  for (size_t p = 0; p * XF_LANES < b->keys; p++) {
    size_t rows = b->keys - p * XF_LANES < XF_LANES ? b->keys - p * XF_LANES : XF_LANES;
    size_t size = xf_type_size(type), elements = (rows - 1) * k_stride + b->d_k;
    char *to = arena_cut(&k_arenas[p], elements, size, b->shift);
    for (size_t i = 0; i < rows * b->d_k; i++)
      put_as(type, b->k[p * XF_LANES * b->d_k + i],
             to + (i / b->d_k * k_stride + i % b->d_k) * size);
    k[p] = to;
  }
}

/* Rows first … first + rows − 1 of the block, with panels of that type, or rows of K. */
static void run_rows_as(const struct xf_kernels *isa, const struct block *b, xf_type type,
                        size_t k_stride, size_t first, size_t rows, struct result *out)
{
  const void *k[MOST_PANELS], *v[MOST_PANELS];
  (type == XF_I8 ? pack_bytes : pack)(b, type, k, v);
  if (k_stride) lay_out_rows(b, type, k_stride, k);
  const size_t packed_floats = XF_NEAR_PANELS * b->d_k * XF_LANES;
  float *packed = arena_floats(&packed_arena, packed_floats, b->shift);
  size_t width = acc_width(b), shift = b->shift, *visible;
  visible = arena_cut(&visible_arena, rows, sizeof *visible, 0);
  memcpy(visible, b->visible + first, rows * sizeof *visible);
  float *m = arena_floats(&m_arena, rows, shift), *l = arena_floats(&l_arena, rows, shift);
  float *acc = arena_floats(&acc_arena, rows * width, shift);
  float *s = arena_floats(&s_arena, rows * b->lds, shift);
  const float *q = arena_copy(&q_arena, rows * b->d_k, shift, b->q + first * b->d_k);
  struct xf_attention_args a = {.type = type,
                                .rows = rows,
                                .d_k = b->d_k,
                                .d_v = b->d_v,
                                .q = q,
                                .visible = visible,
                                .k = k,
                                .v = v,
                                .v_stride = b->v_stride,
                                .k_stride = k_stride,
                                .packed = packed,
                                .c = b->c,
                                .s = s,
                                .lds = b->lds,
                                .m = m,
                                .l = l,
                                .acc = acc};
  isa->attention_block(&a);
  arena_expect_untouched(&m_arena, isa->name, m, rows);
  arena_expect_untouched(&l_arena, isa->name, l, rows);
  arena_expect_untouched(&acc_arena, isa->name, acc, rows * width);
  arena_expect_untouched(&s_arena, isa->name, s, rows * b->lds);
  arena_expect_untouched(&packed_arena, isa->name, packed, packed_floats);
  memcpy(out->m + first, m, rows * sizeof *m);
  memcpy(out->l + first, l, rows * sizeof *l);
  memcpy(out->acc + first * width, acc, rows * width * sizeof *acc);
}

static void run_rows(const struct xf_kernels *isa, const struct block *b, size_t first, size_t rows,
                     struct result *out)
{
  run_rows_as(isa, b, XF_F32, 0, first, rows, out);
}

static size_t random_visible(struct rng *rng, size_t keys)
{
  switch (rng_below(rng, 5)) {
  case 0: return keys;
  case 1: return rng_below(rng, 2) ? 0 : keys < 17 ? keys : 17;
  case 2: return keys - keys % XF_LANES;
  default: return rng_below(rng, keys + 1);
  }
}

static void fill_block(struct rng *rng, struct block *b, enum fill fill)
{
  fill_array(rng, fill, b->rows * b->d_k, b->q);
  fill_array(rng, fill, XF_BLOCK * b->d_k, b->k);
  fill_array(rng, fill, XF_BLOCK * b->d_v, b->v);
  if (fill == FILL_RISING || fill == FILL_FALLING) /* scores that rise or fall from key to key */
    for (size_t i = 0; i < b->rows * b->d_k; i++) b->q[i] = 1 + 0.5f * rng_uniform(rng);
  for (size_t i = 0; i < XF_BLOCK && b->type == XF_I8; i++) {
    b->k_scale[i] = numerics_quantize(b->d_k, b->k + i * b->d_k, b->kq + i * b->d_k);
    b->v_scale[i] = numerics_quantize(b->d_v, b->v + i * b->d_v, b->vq + i * b->d_v);
  }
  round_rows(b->type, XF_BLOCK, b->d_k, b->k);
  round_rows(b->type, XF_BLOCK, b->d_v, b->v);
  /* Keys that no row may see: NaN and infinities must not leak. */
  for (size_t i = b->keys * b->d_k; i < XF_BLOCK * b->d_k; i++) b->k[i] = i & 1 ? NAN : INFINITY;
  for (size_t i = b->keys * b->d_v; i < XF_BLOCK * b->d_v; i++) b->v[i] = i & 1 ? -INFINITY : NAN;
}

static void random_block(struct rng *rng, struct block *b, enum fill fill, size_t d_k, size_t d_v)
{
  static const xf_type types[] = {XF_F16, XF_BF16, XF_I8};
  uint64_t seed = rng->state;
  b->type = types[rng_below(rng, 3)];
  b->rows = 1 + rng_below(rng, XF_ATTENTION_ROWS);
  b->d_k = d_k, b->d_v = d_v;
  b->keys = 0;
  size_t most = rng_below(rng, 4) ? rng_below(rng, 140) : rng_below(rng, XF_BLOCK + 1);
  int ragged = rng_below(rng, 2) != 0; /* else causal: each row sees one key more */
  for (size_t r = 0; r < b->rows; r++) {
    b->visible[r] = ragged ? random_visible(rng, most) : most + r < XF_BLOCK ? most + r : XF_BLOCK;
    b->keys = b->visible[r] > b->keys ? b->visible[r] : b->keys;
  }
  b->v_stride = acc_width(b) + (rng_below(rng, 2) ? 16 : 0);
  b->lds = (b->keys + XF_LANES - 1) / XF_LANES * XF_LANES + rng_below(rng, 2) * 16;
  b->shift = rng_below(rng, 2);
  b->c = 1.442695f / sqrtf((float)d_k) * (1.5f + rng_uniform(rng));
  fill_block(rng, b, fill);
  this_case("seed %llu %s %s rows %zu d_k %zu d_v %zu keys %zu v_stride %zu lds %zu shift %zu",
            (unsigned long long)seed, fill_names[fill], xf_type_name(b->type), b->rows, d_k, d_v,
            b->keys, b->v_stride, b->lds, b->shift);
}

static void random_heads(struct rng *rng, struct block *b, enum fill fill, size_t most)
{
  size_t d_k = 1 + rng_below(rng, most);
  random_block(rng, b, fill, d_k, 1 + rng_below(rng, most));
}

static void expect_result(const struct block *b, const char *isa, const char *what,
                          const struct result *got, const struct result *want)
{
  size_t width = acc_width(b);
  expect_bits(what, isa, got->m, want->m, b->rows);
  expect_bits(what, isa, got->l, want->l, b->rows);
  for (size_t r = 0; r < b->rows; r++) {
    const float *acc = got->acc + r * width;
    if (b->visible[r] == 0) {
      const float zeros[2] = {0, 0}, row[2] = {got->m[r], got->l[r]};
      expect_poison("acc of a row that sees nothing", isa, acc, width);
      expect_bits("m and l of a row that sees nothing", isa, row, zeros, 2);
    } else {
      expect_bits(what, isa, acc, want->acc + r * width, width);
    }
  }
}

static struct attention_row row_of(const struct block *b, size_t r)
{
  return (struct attention_row){.d_k = b->d_k,
                                .d_v = b->d_v,
                                .n = b->visible[r],
                                .q = b->q + r * b->d_k,
                                .k = b->k,
                                .v = b->v,
                                .ldk = b->d_k,
                                .ldv = b->d_v,
                                .c = b->c};
}

/* Rows of the scalar kernel against docs/numerics.md and, finished, against double precision. */
static void check_scalar_row(const struct block *b, const struct result *got, size_t r)
{
  static float p[XF_BLOCK], acc[MOST_D];
  static double weights[2 * XF_BLOCK];
  static struct estimate out[MOST_D];
  struct attention_row row = row_of(b, r);
  struct estimate lse;
  float m, l;
  memcpy(acc, got->acc + r * acc_width(b), b->d_v * sizeof *acc);
  if (row.n > 0) {
    numerics_block(&row, p, &m, &l, acc);
    expect_bits("m, against numerics.md", "scalar", &got->m[r], &m, 1);
    expect_bits("l, against numerics.md", "scalar", &got->l[r], &l, 1);
    expect_bits("acc, against numerics.md", "scalar", got->acc + r * acc_width(b), acc, b->d_v);
  }
  oracle_attention(&row, (double)b->c * 0.69314718055994531, XF_BLOCK, weights, out, &lse);
  float got_lse = xf_kernels_scalar.log_sum_exp(got->m[r], got->l[r]);
  xf_kernels_scalar.attention_finish(b->d_v, got->l[r], acc, acc);
  if (row.n == 0)
    expect_true("lse of a row that sees nothing is -inf", "scalar", got_lse == -INFINITY);
  else
    expect_near("lse", "scalar", got_lse, lse.value, lse.bound);
  for (size_t d = 0; d < b->d_v; d++)
    expect_near("out", "scalar", acc[d], out[d].value, out[d].bound);
}

static void check_block(struct rng *rng, const struct block *b, int with_oracle)
{
  static struct result want, got;
  run_rows(&xf_kernels_scalar, b, 0, b->rows, &want);
  for (int i = 0; with_oracle && i < 2; i++) check_scalar_row(b, &want, rng_below(rng, b->rows));
  for (const struct xf_kernels *isa = NULL; (isa = next_isa(isa));) {
    run_rows(isa, b, 0, b->rows, &got);
    expect_result(b, isa->name, "attention_block", &got, &want);
    run_rows_as(isa, b, b->type, 0, 0, b->rows, &got);
    expect_result(b, isa->name, "panels of fewer bits", &got, &want);
    for (int narrow = 0; narrow < (b->type == XF_I8 ? 1 : 2); narrow++) {
      size_t k_stride = b->d_k + rng_below(rng, 17);
      run_rows_as(isa, b, narrow ? b->type : XF_F32, k_stride, 0, b->rows, &got);
      expect_result(b, isa->name, "keys as rows", &got, &want);
    }
  }
}

static struct block block;

static void test_head_sizes(void **state)
{
  (void)state;
  static const size_t large[] = {95, 96, 97, 112, 127, 128, 129, 160, 191, 192, 208, 255, 256};
  struct rng rng = {1};
  for (size_t i = 1; i <= 80 + sizeof large / sizeof *large; i++) {
    size_t d = i <= 80 ? i : large[i - 81];
    for (size_t repeat = scaled(20); repeat > 0; repeat--) {
      random_block(&rng, &block, FILL_NORMAL, d, d);
      check_block(&rng, &block, 1);
    }
  }
}

static void test_unequal_heads(void **state)
{
  (void)state;
  struct rng rng = {2};
  for (size_t i = 0; i < scaled(600); i++) {
    random_heads(&rng, &block, FILL_NORMAL, 100);
    check_block(&rng, &block, 1);
  }
}

static void test_special_values(void **state)
{
  (void)state;
  struct rng rng = {3};
  for (size_t i = 0; i < scaled(150) * FILL_KINDS; i++) {
    enum fill fill = i % FILL_KINDS;
    random_heads(&rng, &block, fill, 80);
    if (fill == FILL_LARGE) /* scores of 1e4, not of 1e8 */
      for (size_t j = 0; j < block.rows * block.d_k; j++) block.q[j] *= 1e-4f;
    check_block(&rng, &block, fill < FILL_SPECIAL);
  }
}

/* A row's bits do not depend on the rows beside it, even where these see NaN and Inf that it does
 * not. */
static void test_rows_are_independent(void **state)
{
  (void)state;
  static struct result together, alone;
  struct rng rng = {4};
  for (size_t i = 0; i < scaled(300); i++) {
    random_heads(&rng, &block, FILL_NORMAL, 80);
    size_t clean = block.keys ? rng_below(&rng, block.keys) : 0;
    for (size_t j = clean * block.d_k; j < block.keys * block.d_k; j += 3) block.k[j] = NAN;
    for (size_t j = clean * block.d_v; j < block.keys * block.d_v; j += 3) block.v[j] = INFINITY;
    for (const struct xf_kernels *isa = NULL; (isa = next_isa(isa));) {
      run_rows(isa, &block, 0, block.rows, &together);
      for (size_t r = 0; r < block.rows; r++) run_rows(isa, &block, r, 1, &alone);
      expect_result(&block, isa->name, "a row alone", &alone, &together);
      for (size_t r = 0; r < block.rows; r++) {
        int finite = isfinite(together.l[r]) && isfinite(together.m[r]);
        for (size_t d = 0; d < block.d_v && block.visible[r]; d++)
          finite &= isfinite(together.acc[r * acc_width(&block) + d]) != 0;
        expect_true("a masked NaN leaked", isa->name, finite || block.visible[r] > clean);
      }
    }
  }
}

/* A value of −0 and of +0 under weights that are positive: the sums start from +0. Scores of −inf
 * at every key leave nothing: l is 0. */
static void test_signs_and_infinities(void **state)
{
  (void)state;
  static struct result got;
  struct rng rng = {5};
  for (const struct xf_kernels *isa = NULL; (isa = next_isa(isa));) {
    random_block(&rng, &block, FILL_NORMAL, 16, 16);
    for (size_t r = 0; r < block.rows; r++) block.visible[r] = block.keys ? block.keys : 0;
    for (size_t i = 0; i < block.rows * 16; i++) block.q[i] = 1;
    for (size_t i = 0; i < block.keys * 16; i++) block.k[i] = -INFINITY;
    run_rows(isa, &block, 0, block.rows, &got);
    for (size_t r = 0; r < block.rows; r++) {
      expect_true("l of scores of -inf is 0", isa->name, got.l[r] == 0 && got.m[r] == 0);
      float lse = isa->log_sum_exp(got.m[r], got.l[r]);
      isa->attention_finish(16, got.l[r], got.acc + r * 16, got.acc + r * 16);
      expect_true("lse of scores of -inf", isa->name, lse == -INFINITY);
    }
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_head_sizes),           cmocka_unit_test(test_unequal_heads),
      cmocka_unit_test(test_special_values),       cmocka_unit_test(test_rows_are_independent),
      cmocka_unit_test(test_signs_and_infinities), cmocka_unit_test(test_required_isas)};
  return cmocka_run_group_tests_name("attention block", tests, set_up, tear_down);
}
