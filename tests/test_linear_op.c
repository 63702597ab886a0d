/* Linear layers as an operator: packing of one or more matrices, and the same bits on every ISA and
 * number of threads. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "dispatch/linear.h"
#include "tests/attention_call.h"
#include "tests/isas.h"

enum { MOST_PARTS = 3, MOST_N = 700, MOST_K = 600, MOST_ROWS = 40, MOST_THREADS = 5 };

/* Matrices of one layer, in their own types and as floats. */
struct layer {
  struct xf_matrix parts[MOST_PARTS];
  void *memory[MOST_PARTS];
  size_t n_parts, n, k;
  float *w; /* [n][k] */
};

static float *x, *y, *want;
static struct xf_linear_scratch scratch;

static int set_up(void **state)
{
  (void)state;
  x = malloc((size_t)MOST_ROWS * MOST_K * sizeof *x);
  y = malloc((size_t)MOST_ROWS * MOST_PARTS * MOST_N * sizeof *y);
  want = malloc((size_t)MOST_ROWS * MOST_PARTS * MOST_N * sizeof *want);
  scratch.floats = malloc(MOST_THREADS * XF_LINEAR_SCRATCH * sizeof *scratch.floats);
  return x && y && want && scratch.floats ? 0 : -1;
}

static int tear_down(void **state)
{
  (void)state;
  free(x), free(y), free(want), free(scratch.floats);
  return 0;
}

/* Bytes in file order, at an odd multiple of the element's size. */
static void *file_bytes(xf_type type, const float *w, size_t n)
{
  size_t size = xf_type_size(type);
  char *memory = malloc((n + 1) * size);
  assert_non_null(memory);
  for (size_t i = 0; i < n; i++) {
    uint16_t half = type == XF_F16 ? to_f16(w[i]) : to_bf16(w[i]);
    memcpy(memory + (i + 1) * size, type == XF_F32 ? (const void *)&w[i] : &half, size);
  }
  return memory;
}

static struct layer random_layer(struct rng *rng)
{
  static const xf_type types[] = {XF_F32, XF_F16, XF_BF16};
  struct layer l = {.n_parts = 1 + rng_below(rng, MOST_PARTS), .k = 1 + rng_below(rng, MOST_K)};
  l.w = malloc(MOST_PARTS * MOST_N * l.k * sizeof *l.w);
  assert_non_null(l.w);
  xf_type type = types[rng_below(rng, 3)];
  for (size_t p = 0; p < l.n_parts; p++) {
    if (rng_below(rng, 4) == 0) type = types[rng_below(rng, 3)];
    size_t n = 1 + rng_below(rng, rng_below(rng, 3) ? 60 : MOST_N);
    float *w = l.w + l.n * l.k;
    fill_array(rng, FILL_NORMAL, n * l.k, w);
    l.memory[p] = file_bytes(type, w, n * l.k);
    for (size_t i = 0; i < n * l.k; i++) w[i] = rounded_to(type, w[i]);
    l.parts[p] = (struct xf_matrix){
        .data = (char *)l.memory[p] + xf_type_size(type), .type = type, .n = n, .k = l.k};
    l.n += n;
  }
  return l;
}

static void layer_free(struct layer *l)
{
  for (size_t p = 0; p < l->n_parts; p++) free(l->memory[p]);
  free(l->w);
}

/* The panels of w [part->n][k]. */
static void check_part(const struct xf_linear_part *part, const void *panels, size_t k,
                       const float *w, const char *isa)
{
  for (size_t i = 0; i < (part->n + 15) / 16 * 16 * k; i++) {
    size_t c = i / (16 * k) * 16 + i % 16;
    const uint16_t *half = (const uint16_t *)panels + i;
    float got = part->type == XF_F32   ? ((const float *)panels)[i]
                : part->type == XF_F16 ? from_f16(*half)
                                       : from_bf16(*half);
    float expected = c < part->n ? w[c * k + i / 16 % k] : 0;
    expect_bits("panel element", isa, &got, &expected, 1);
  }
}

static void check_panels(const struct layer *l, const struct xf_linear *packed, const char *isa)
{
  size_t done = 0, n = 0, bytes = 0;
  expect_true("n and k", isa, packed->n == l->n && packed->k == l->k);
  for (size_t i = 0; i < packed->n_parts; i++) {
    const struct xf_linear_part *part = &packed->parts[i];
    size_t columns = 0;
    for (; done < l->n_parts && l->parts[done].type == part->type; done++)
      columns += l->parts[done].n;
    expect_true("columns of a part", isa, columns > 0 && columns == part->n);
    check_part(part, xf_linear_panels(packed, i), l->k, l->w + n * l->k, isa);
    n += columns;
    bytes += ((columns + 15) / 16 * 16 * l->k * xf_type_size(part->type) + 63) / 64 * 64;
  }
  expect_true("every part", isa, done == l->n_parts);
  expect_true("bytes", isa, xf_linear_bytes(packed) == bytes);
}

static void check_layer(struct rng *rng, const struct layer *l, const xf_context *context)
{
  const char *isa = xf_context_isa(context);
  struct xf_linear packed;
  xf_error error;
  if (xf_linear_pack(context, l->parts, l->n_parts, &packed, &error)) fail_msg("%s", error.message);
  check_panels(l, &packed, isa);
  size_t rows = rng_below(rng, 3) ? 1 + rng_below(rng, 3) : 1 + rng_below(rng, MOST_ROWS);
  fill_array(rng, FILL_NORMAL, rows * l->k, x);
  memset(y, 0xA5, rows * l->n * sizeof *y);
  xf_linear_apply(context, &packed, rows, x, l->k, y, l->n, &scratch);
  for (size_t r = 0; r < rows; r++)
    for (size_t c = 0; c < l->n; c++)
      want[r * l->n + c] = numerics_linear(l->k, x + r * l->k, l->w + c * l->k, 1);
  expect_bits("linear layer, against numerics.md", isa, y, want, rows * l->n);
  xf_linear_free(&packed);
  expect_true("freed is empty", isa, packed.n_parts == 0 && packed.n == 0);
  xf_linear_free(&packed);
}

static void test_layers(void **state)
{
  (void)state;
  struct rng rng = {1};
  for (const struct xf_kernels *k = NULL; (k = next_isa(k));) {
    static const uint32_t threads[] = {1, 2, MOST_THREADS};
    for (size_t t = 0; t < 3; t++) {
      xf_context *context = context_new(k->name, threads[t], thread_each);
      for (size_t i = 0; i < scaled(15); i++) {
        uint64_t seed = rng.state;
        struct layer l = random_layer(&rng);
        this_case("seed %llu parts %zu n %zu k %zu threads %u", (unsigned long long)seed, l.n_parts,
                  l.n, l.k, threads[t]);
        check_layer(&rng, &l, context);
        layer_free(&l);
      }
      xf_context_destroy(context);
    }
  }
}

/* f32 that is bf16, in rows with gaps; `one`: but for the last number of that row. */
static struct layer narrow_layer(struct rng *rng, size_t n, size_t k, size_t gap, size_t one)
{
  struct layer l = {.n_parts = 1, .n = n, .k = k, .w = malloc(n * k * sizeof(float))};
  char *memory = l.memory[0] = malloc((n * (k + gap) + 1) * sizeof(float));
  assert_true(l.w && memory);
  memset(memory, 0xA5, (n * (k + gap) + 1) * sizeof(float));
  fill_array(rng, FILL_NORMAL, n * k, l.w);
  for (size_t i = 0; i < n * k; i++) l.w[i] = rounded_to(XF_BF16, l.w[i]);
  if (one < n) l.w[one * k + k - 1] = nextafterf(1, 2);
  for (size_t r = 0; r < n; r++)
    memcpy(memory + 1 + r * (k + gap) * sizeof(float), l.w + r * k, k * sizeof(float));
  l.parts[0] = (struct xf_matrix){
      .data = memory + 1, .type = XF_F32, .n = n, .k = k, .gap = (ptrdiff_t)(gap * sizeof(float))};
  return l;
}

static void test_narrow(void **state)
{
  (void)state;
  struct rng rng = {2};
  for (const struct xf_kernels *kernels = NULL; (kernels = next_isa(kernels));) {
    xf_context *context = context_new(kernels->name, 3, thread_each);
    for (size_t i = 0; i < scaled(15); i++) {
      size_t n = 1 + rng_below(&rng, 60), k = 1 + rng_below(&rng, MOST_K), gap = rng_below(&rng, 4);
      size_t one = i % 2 ? n : rng_below(&rng, n); /* none, or that row */
      struct layer l = narrow_layer(&rng, n, k, gap, one);
      this_case("n %zu k %zu gap %zu one %zu", n, k, gap, one);
      xf_matrix_narrow(context, &l.parts[0]);
      expect_true("type", kernels->name, l.parts[0].type == (one < n ? XF_F32 : XF_BF16));
      check_layer(&rng, &l, context);
      layer_free(&l);
    }
    xf_context_destroy(context);
  }
}

static void test_shapes_that_disagree(void **state)
{
  (void)state;
  xf_context *context = context_new("scalar", 1, NULL);
  static const float w[64];
  struct xf_matrix parts[] = {{.data = w, .type = XF_F32, .n = 4, .k = 8},
                              {.data = w, .type = XF_F32, .n = 4, .k = 9}};
  struct xf_linear out;
  xf_error error = {0};
  assert_int_equal(xf_linear_pack(context, parts, 2, &out, &error), XF_E_SHAPE);
  assert_int_equal(error.status, XF_E_SHAPE);
  assert_non_null(strstr(error.message, "9"));
  assert_int_equal(xf_linear_pack(context, parts, 2, &out, NULL), XF_E_SHAPE);
  xf_context_destroy(context);
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_layers), cmocka_unit_test(test_narrow),
                                     cmocka_unit_test(test_shapes_that_disagree),
                                     cmocka_unit_test(test_required_isas)};
  return cmocka_run_group_tests_name("linear operator", tests, set_up, tear_down);
}
