/* Packed pages of bytes: how rows are rounded to them, that what is read and stored again does not
 * change, and that attention over them has the bits of plain bytes with the same scales. */
#include <fenv.h>
#include <math.h>
#include <string.h>

#include "tests/attention_call.h"
#include "tests/host_call.h"
#include "tests/isas.h"

enum { MOST_COLUMNS = 256, PAGE_LEN = 32, HEADS = 2 };

/* Rows of one position, [HEADS][d], and where a page of them lies. */
struct position {
  size_t d, slot;
  float k[HEADS * MOST_COLUMNS], v[HEADS * MOST_COLUMNS];
};

static void fill_row(struct rng *rng, size_t kind, size_t d, float *x)
{
  static const float most[] = {0x1.fffffep127f, 127 * 0x1p-126f, 0x1.fbffffp-120f, 0x1p-149f, 0};
  if (kind < FILL_KINDS) fill_array(rng, (enum fill)kind, d, x);
  for (size_t i = 0; i < d && kind >= FILL_KINDS; i++) {
    x[i] = most[kind % 5] * rng_uniform(rng);
    if (rng_below(rng, 3) == 0) x[i] = most[kind % 5];
  }
  for (size_t i = 0; i < d && kind == FILL_KINDS + 5; i++) /* ties */
    x[i] = (float)rng_below(rng, 509) / 2 - 127;
}

static struct position random_position(struct rng *rng)
{
  struct position p = {.d = 1 + rng_below(rng, rng_below(rng, 2) ? 40 : MOST_COLUMNS),
                       .slot = rng_below(rng, PAGE_LEN)};
  for (size_t head = 0; head < HEADS; head++) {
    fill_row(rng, rng_below(rng, FILL_KINDS + 6), p.d, p.k + head * p.d);
    fill_row(rng, rng_below(rng, FILL_KINDS + 6), p.d, p.v + head * p.d);
  }
  return p;
}

static size_t bytes_of(const struct position *p)
{
  size_t bytes;
  assert_int_equal(xf_kv_page_bytes(XF_I8, PAGE_LEN, HEADS, p->d, p->d, &bytes, NULL), XF_OK);
  return bytes;
}

static void pack(const xf_context *context, const struct position *p, void *page)
{
  int64_t d = (int64_t)p->d;
  xf_view k = {p->k, XF_F32, 3, {1, HEADS, d}, {4 * HEADS * d, 4 * d, 4}}, v = k;
  v.data = p->v;
  xf_error error;
  memset(page, 0, bytes_of(p));
  if (xf_kv_pack(context, XF_I8, PAGE_LEN, &k, &v, p->slot, page, bytes_of(p), 1, NULL, &error))
    fail_msg("%s", error.message);
}

/* The same page by docs/numerics.md and exactflash/attention.h. */
static void expected_page(const struct position *p, char *page)
{
  size_t stride = (p->d + 15) / 16 * 16, lane = p->slot % 16, panel = p->slot / 16;
  size_t panels = PAGE_LEN / 16, k_panel = 64 + 16 * p->d, v_panel = 64 + 16 * stride;
  memset(page, 0, bytes_of(p));
  for (size_t head = 0; head < HEADS; head++) {
    char *k = page + head * panels * (k_panel + v_panel), *v = k + panels * k_panel;
    k += panel * k_panel, v += panel * v_panel;
    int8_t q[MOST_COLUMNS];
    float scale = numerics_quantize(p->d, p->k + head * p->d, q);
    memcpy(k + 4 * lane, &scale, sizeof scale);
    for (size_t i = 0; i < p->d; i++) k[64 + 16 * i + lane] = (char)q[i];
    scale = numerics_quantize(p->d, p->v + head * p->d, q);
    memcpy(v + 4 * lane, &scale, sizeof scale);
    memcpy(v + 64 + lane * stride, q, p->d);
  }
}

/* NaN may have any payload. */
static void expect_page(const char *what, const char *isa, const struct position *p, void *got,
                        void *want)
{
  size_t words = bytes_of(p) / sizeof(float);
  for (size_t i = 0; i < words; i++) {
    float *word = (float *)got + i;
    if (isnan(*word) && isnan(((float *)want)[i])) memcpy(word, (float *)want + i, sizeof *word);
  }
  expect_true(what, isa, memcmp(got, want, bytes_of(p)) == 0);
}

/* Half a step from the number at most, and what rounding the step, its inverse and the product
 * adds.
 */
static void expect_close(size_t n, const float *x)
{
  int8_t q[MOST_COLUMNS];
  float scale = numerics_quantize(n, x, q);
  for (size_t i = 0; i < n && !isnan(scale); i++)
    expect_near("q · scale", "any", (float)((double)x[i] - (double)q[i] * (double)scale), 0,
                scale > 0 ? (0.5 + 127 * 0x1p-21) * (double)scale : 127 * 0x1p-126);
}

/* In any rounding mode of the caller, which stays as it was. */
static void test_rounding(void **state)
{
  (void)state;
  static const int modes[] = {FE_TONEAREST, FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO};
  struct rng rng = {1};
  for (size_t i = 0; i < scaled(4000); i++) {
    uint64_t seed = rng.state;
    struct position p = random_position(&rng);
    const xf_context *context = contexts[i % n_contexts];
    this_case("seed %llu d %zu slot %zu", (unsigned long long)seed, p.d, p.slot);
    struct guarded got = guarded_new(bytes_of(&p)), want = guarded_new(bytes_of(&p));
    fesetround(modes[i % 4]);
    pack(context, &p, got.data);
    int mode = fegetround();
    fesetround(FE_TONEAREST);
    assert_int_equal(mode, modes[i % 4]);
    expected_page(&p, want.data);
    expect_page("page", xf_context_isa(context), &p, got.data, want.data);
    expect_close(p.d, p.k);
    guarded_free(&got), guarded_free(&want);
  }
}

/* A row's greatest q is ±127: the scale of what is read, fl(fl(127 · scale) / 127), is the same
 * again, and so are all q. Both binades that scales of one exponent come from. Above all others the
 * greatest float's product is infinite. */
static void test_scales_come_back(void **state)
{
  (void)state;
  for (uint32_t i = 0; i < 1u << 24; i += (uint32_t)(16 / scaled(16))) {
    float amax = ldexpf(1 + (float)(i & 0x7FFFFF) * 0x1p-23f, i >> 23 ? 1 : 0);
    float scale = amax / 127, again = 127 * scale;
    if (again / 127 != scale) fail_msg("%a: scale %a, then %a", amax, scale, again / 127);
  }
}

static void test_stored_again(void **state)
{
  (void)state;
  struct rng rng = {2};
  for (size_t i = 0; i < scaled(2000); i++) {
    uint64_t seed = rng.state;
    struct position p = random_position(&rng);
    this_case("seed %llu d %zu slot %zu", (unsigned long long)seed, p.d, p.slot);
    struct guarded first = guarded_new(bytes_of(&p)), second = guarded_new(bytes_of(&p));
    struct xf_kv_layout layout = xf_kv_layout_dense(XF_I8, PAGE_LEN, p.d, p.d);
    const xf_context *context = contexts[i % n_contexts];
    for (size_t j = 0; j < HEADS * p.d; j++) {
      if (fabsf(p.k[j]) == 0x1.fffffep127f) p.k[j] = 1;
      if (fabsf(p.v[j]) == 0x1.fffffep127f) p.v[j] = 1;
    }
    pack(context, &p, first.data);
    xf_kv_read(context->kernels, &layout, HEADS, &first.data, p.slot, p.k, p.v);
    pack(context, &p, second.data);
    expect_page("page", xf_context_isa(context), &p, second.data, first.data);
    guarded_free(&first), guarded_free(&second);
  }
}

/* ---- attention ---- */

/* K and V of bytes, with any scales. */
static struct host_case case_of_bytes(struct rng *rng, size_t i)
{
  for (;;) {
    struct host_case c = host_case_random(rng, i % 8 == 7 ? 1100 : 100, i % 4 ? 40 : MOST_COLUMNS);
    if (c.types[0] == XF_I8 && c.types[1] == XF_I8) return c;
    host_case_free(&c);
  }
}

static struct host_result result_of(struct rng *rng, const xf_context *context,
                                    const struct host_case *c, struct host_options options,
                                    uint32_t split)
{
  struct host_call call = host_call_new(rng, context, c, options);
  struct host_result r = host_result_new(c);
  call.desc.split = split;
  host_call_run(&call, context, rng_below(rng, 3), &r);
  host_call_free(&call);
  return r;
}

static void test_attention(void **state)
{
  (void)state;
  struct rng rng = {3};
  for (size_t i = 0; i < scaled(60); i++) {
    struct host_case c = case_of_bytes(&rng, i);
    size_t rows = c.batch * c.q_len * c.q_heads;
    struct host_result want = result_of(&rng, reference, &c, (struct host_options){0}, 1);
    for (size_t j = 0; j < n_contexts; j++) {
      struct host_options options = host_options_random(&rng);
      options.layout = XF_KV_PACKED, options.wide = false;
      options.page_len = 16 * (1 + rng_below(&rng, 40));
      struct host_result got =
          result_of(&rng, contexts[j], &c, options, (uint32_t)rng_below(&rng, 3));
      expect_bits("packed bytes", xf_context_isa(contexts[j]), got.out, want.out, rows * c.d_v);
      expect_bits("their lse", xf_context_isa(contexts[j]), got.lse, want.lse, rows);
      host_result_free(&got);
    }
    host_result_free(&want);
    host_case_free(&c);
  }
}

/* The kernel that widens K for many rows: every value, and every number of columns. */
static void test_widen_panel(void **state)
{
  (void)state;
  struct rng rng = {4};
  struct arena in = arena_new((size_t)4 * MOST_COLUMNS + 1), scales = arena_new(XF_LANES + 1);
  struct arena out = arena_new((size_t)MOST_COLUMNS * XF_LANES + 1);
  for (const struct xf_kernels *k = NULL; (k = next_isa(k));) {
    for (size_t d = 1; d <= MOST_COLUMNS; d++) {
      float scale[XF_LANES], want[MOST_COLUMNS * XF_LANES];
      fill_array(&rng, d % FILL_KINDS, XF_LANES, scale);
      int8_t *x = arena_cut(&in, d * XF_LANES, 1, d & 1);
      float *y = arena_floats(&out, d * XF_LANES, d & 1);
      for (size_t i = 0; i < d * XF_LANES; i++)
        want[i] = (float)(x[i] = (int8_t)((int)((i + 7 * d) % 256) - 128)) * scale[i % XF_LANES];
      this_case("widen_i8_panel d %zu", d);
      k->widen_i8_panel(d, x, arena_copy(&scales, XF_LANES, d & 1, scale), y);
      expect_bits("panel", k->name, y, want, d * XF_LANES);
      arena_expect_untouched(&out, k->name, y, d * XF_LANES);
    }
  }
  arena_free(&in), arena_free(&scales), arena_free(&out);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_rounding),     cmocka_unit_test(test_scales_come_back),
      cmocka_unit_test(test_stored_again), cmocka_unit_test(test_attention),
      cmocka_unit_test(test_widen_panel),  cmocka_unit_test(test_required_isas)};
  return cmocka_run_group_tests_name("pages of bytes", tests, contexts_set_up, contexts_tear_down);
}
