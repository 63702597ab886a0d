/* Linear layers of 8- and 4-bit weights, from the file's blocks to the products: what a weight
 * stands for, layers over it with float and with int8 activations, the same bits on every ISA and
 * number of threads. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "dispatch/linear.h"
#include "dispatch/quant.h"
#include "tests/attention_call.h"
#include "tests/isas.h"
#include "tests/oracle.h"
#include "tests/quants.h"

enum { MOST_ROWS = 40, MOST_THREADS = 5 };

static xf_type random_type(struct rng *rng)
{
  return quants_types[rng_below(rng, n_quants_types)];
}

/* k of whole blocks; of I8_ROW any. */
static size_t random_k(struct rng *rng, xf_type type, size_t most)
{
  size_t block = quants_block(type);
  return block * (1 + rng_below(rng, most / block));
}

static void test_weights(void **state)
{
  (void)state;
  struct rng rng = {1};
  for (size_t i = 0; i < scaled(200); i++) {
    xf_type type = random_type(&rng);
    struct quants q = quants_new(&rng, type, 3, random_k(&rng, type, 600), i % 2);
    struct xf_matrix matrix = quants_matrix(&q);
    float *got = malloc(q.k * sizeof *got), *want = malloc(q.k * sizeof *want);
    assert_true(got && want);
    for (const struct xf_kernels *k = NULL; (k = next_isa(k));)
      for (size_t row = 0; row < q.n; row++) {
        this_case("%s, k %zu, row %zu", xf_type_name(type), q.k, row);
        for (size_t j = 0; j < q.k; j++) want[j] = quants_weight(&q, row, j);
        xf_matrix_widen(k, &matrix, row, got);
        expect_bits("weights as floats", k->name, got, want, q.k);
      }
    free(got), free(want);
    quants_free(&q);
  }
}

/* A layer of parts that may differ in type, or may not be of blocks at all. */
struct layer {
  struct quants parts[XF_LINEAR_PARTS];
  struct xf_matrix matrices[XF_LINEAR_PARTS];
  size_t n_parts, n, k;
};

static struct layer layer_new(struct rng *rng, bool special)
{
  struct layer l = {.n_parts = 1 + rng_below(rng, XF_LINEAR_PARTS)};
  xf_type type = random_type(rng);
  l.k = random_k(rng, type, rng_below(rng, 3) ? 600 : 1400);
  for (size_t p = 0; p < l.n_parts; p++) {
    xf_type other = random_type(rng);
    if (rng_below(rng, 2) && l.k % quants_block(other) == 0) type = other;
    size_t n = 2 * (1 + rng_below(rng, rng_below(rng, 3) ? 40 : 300));
    l.parts[p] = quants_new(rng, type, n, l.k, special);
    l.matrices[p] = quants_matrix(&l.parts[p]);
    if (rng_below(rng, 3) == 0) l.matrices[p].paired = n % 4 == 0 ? n / 2 : n;
    l.n += n;
  }
  return l;
}

static void layer_free(struct layer *l)
{
  for (size_t p = 0; p < l->n_parts; p++) quants_free(&l->parts[p]);
}

/* The part that column c belongs to, and its row in the file. */
static const struct quants *column_of(const struct layer *l, size_t c, size_t *row)
{
  size_t p = 0;
  for (; c >= l->parts[p].n; p++) c -= l->parts[p].n;
  size_t group = l->matrices[p].paired, half = group / 2;
  *row = !group ? c
                : c / group * group +
                      (c % group < half ? 2 * (c % group) : 2 * (c % group - half) + 1);
  return &l->parts[p];
}

/* Every output, with activations of 8 bits or floats. */
static float *expected(const struct layer *l, size_t rows, const float *x, bool integers)
{
  float *y = malloc(rows * l->n * sizeof *y), *w = malloc(l->k * sizeof *w);
  assert_true(y && w);
  for (size_t c = 0; c < l->n; c++) {
    size_t row;
    const struct quants *q = column_of(l, c, &row);
    for (size_t i = 0; i < l->k && !integers; i++) w[i] = quants_weight(q, row, i);
    for (size_t r = 0; r < rows; r++)
      y[r * l->n + c] =
          integers ? quants_dot(q, row, x + r * l->k) : numerics_linear(l->k, x + r * l->k, w, 1);
  }
  free(w);
  return y;
}

static void check_layer(const struct layer *l, const xf_context *context, size_t rows,
                        const float *x, const float *want, bool integers)
{
  struct xf_linear packed;
  xf_error error;
  if (xf_linear_pack(context, l->matrices, l->n_parts, &packed, &error))
    fail_msg("%s", error.message);
  struct xf_linear_rows inputs = {.quantized = integers ? rows : 0, .k = l->k};
  size_t bytes = xf_linear_scratch_bytes(context, inputs);
  struct guarded memory = guarded_new((bytes + 3) / 4 * 4), y = guarded_new(rows * l->n * 4);
  struct xf_linear_scratch scratch = xf_linear_scratch_in(memory.data, context, inputs);
  xf_linear_apply(context, &packed, rows, x, l->k, y.data, l->n, &scratch);
  expect_bits(integers ? "int8 activations" : "f32 activations", xf_context_isa(context), y.data,
              want, rows * l->n);
  guarded_free(&memory), guarded_free(&y);
  xf_linear_free(&packed);
}

static void check_random(struct rng *rng, enum fill fill, bool special)
{
  static const uint32_t threads[] = {1, 2, MOST_THREADS};
  uint64_t seed = rng->state;
  struct layer l = layer_new(rng, special);
  size_t rows = rng_below(rng, 3) ? 1 + rng_below(rng, 3) : 1 + rng_below(rng, MOST_ROWS);
  bool integers = rng_below(rng, 2);
  float *x = malloc(rows * l.k * sizeof *x);
  assert_non_null(x);
  fill_array(rng, fill, rows * l.k, x);
  float *want = expected(&l, rows, x, integers);
  for (const struct xf_kernels *k = NULL; (k = next_quant_isa(k));) {
    uint32_t t = threads[rng_below(rng, 3)];
    xf_context *context = context_new(k->name, t, thread_each);
    this_case("seed %llu, %s, parts %zu (%s …), n %zu, k %zu, rows %zu, threads %u",
              (unsigned long long)seed, fill_names[fill], l.n_parts, xf_type_name(l.parts[0].type),
              l.n, l.k, rows, t);
    check_layer(&l, context, rows, x, want, integers);
    xf_context_destroy(context);
  }
  free(x), free(want);
  layer_free(&l);
}

static void test_layers(void **state)
{
  (void)state;
  struct rng rng = {2};
  for (size_t i = 0; i < scaled(150); i++) check_random(&rng, FILL_NORMAL, false);
}

static void test_special_values(void **state)
{
  (void)state;
  static const enum fill fills[] = {FILL_NORMAL, FILL_SPECIAL,    FILL_DENORMAL,
                                    FILL_LARGE,  FILL_MINUS_ZERO, FILL_NAN};
  struct rng rng = {3};
  for (size_t i = 0; i < scaled(120); i++) check_random(&rng, fills[i % 6], i % 12 < 6);
}

/* u of a panel, as kernels/quant.h says where it is. */
static int u_at(struct xf_quant_format format, const uint8_t *panel, size_t column, size_t i)
{
  const uint8_t *chunk = panel + i / 32 * 64 * format.bits;
  size_t step = i % 32 / 4, at = column * 4 + i % 4;
  if (format.bits == 8) return chunk[step * 64 + at];
  int low = chunk[step / 2 * 64 + at] >> step % 2 * 4 & 15;
  if (format.bits == 5) return low + 16 * (chunk[256 + at] >> step & 1);
  if (format.bits == 6) return low + 16 * (chunk[256 + step / 4 * 64 + at] >> step % 4 * 2 & 3);
  return low;
}

/* Columns that do not exist, and what lies behind k: u = zero; their scales, and what lies behind
 * the records: 0. */
static void test_padding(void **state)
{
  (void)state;
  struct rng rng = {4};
  for (size_t t = 0; t < n_quants_types; t++) {
    xf_type type = quants_types[t];
    struct xf_quant_format format = xf_quant_format_of(type);
    size_t k = type == XF_I8_ROW ? 33 : 256, bytes = xf_quant_panel_bytes(format, k), ones = 0;
    struct quants q = quants_new(&rng, type, 1, k, false);
    struct xf_matrix matrix = quants_matrix(&q);
    struct guarded panel = guarded_new(bytes);
    struct xf_quant_row rows[XF_LANES] = {{NULL, 0}};
    this_case("%s", xf_type_name(type));
    xf_quant_pack(type, k, rows, panel.data);
    for (size_t i = xf_quant_records_at(format, k); i < bytes; i++)
      expect_true("records of nothing", "", ((uint8_t *)panel.data)[i] == 0);
    rows[5].data = xf_matrix_row(&matrix, 0, &rows[5].scale);
    xf_quant_pack(type, k, rows, panel.data);
    for (size_t i = 0; i < xf_quant_k(k) * XF_LANES; i++) {
      int u = u_at(format, panel.data, i % XF_LANES, i / XF_LANES);
      bool there = i % XF_LANES == 5 && i / XF_LANES < k;
      expect_true("u of nothing", "", there || u == format.zero);
      ones += there && u != format.zero;
    }
    expect_true("a column", "", ones > k / 2);
    guarded_free(&panel);
    quants_free(&q);
  }
}

static void test_shapes_that_do_not_fit(void **state)
{
  (void)state;
  static const unsigned char data[4096];
  xf_context *context = context_new("scalar", 1, NULL);
  for (size_t t = 0; t < n_quants_types; t++) {
    size_t block = quants_block(quants_types[t]);
    struct xf_matrix m = {.data = data, .type = quants_types[t], .n = 2, .k = block + 1};
    struct xf_linear out;
    xf_error error = {0};
    if (block > 1) {
      assert_int_equal(xf_linear_pack(context, &m, 1, &out, &error), XF_E_SHAPE);
      assert_non_null(strstr(error.message, xf_type_name(m.type)));
    }
  }
  /* Sums of products of bytes must fit 32 bits. */
  struct xf_matrix m = {.data = data, .type = XF_I8_ROW, .n = 1, .k = (1 << 17) + 1};
  struct xf_linear out;
  xf_error error = {0};
  assert_int_equal(xf_linear_pack(context, &m, 1, &out, &error), XF_E_UNSUPPORTED);
  assert_non_null(strstr(error.message, "131073"));
  xf_context_destroy(context);
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_weights),
                                     cmocka_unit_test(test_layers),
                                     cmocka_unit_test(test_special_values),
                                     cmocka_unit_test(test_padding),
                                     cmocka_unit_test(test_shapes_that_do_not_fit),
                                     cmocka_unit_test(test_required_isas)};
  return cmocka_run_group_tests_name("8- and 4-bit weights", tests, NULL, NULL);
}
