/* A host's AMX tiles: a linear layer leaves the configuration that it finds. */
#include <string.h>

#include "kernels/quant.h"
#include "tests/compare.h"
#include "tests/isas.h"
#include "tests/quant_case.h"

#ifdef __x86_64__
#include <immintrin.h>

/* As Intel's manual has it. */
struct shapes {
  uint8_t palette, start_row, reserved[14];
  uint16_t row_bytes[16];
  uint8_t rows[16];
};

__attribute__((target("amx-tile"))) static void configure(const struct shapes *shapes)
{
  __asm__ volatile("" : : "r"(shapes) : "memory");
  _tile_loadconfig(shapes);
}

__attribute__((target("amx-tile"))) static struct shapes configuration(void)
{
  struct shapes shapes = {0};
  _tile_storeconfig(&shapes);
  __asm__ volatile("" : : "r"(&shapes) : "memory");
  return shapes;
}

static const struct quant_type *type_of(xf_type type)
{
  size_t i = 0;
  while (quant_types[i].type != type) i++;
  return &quant_types[i];
}

static void run(xf_type type, size_t rows)
{
  enum { K = 256, N = 32 };
  struct rng rng = {1};
  struct quant_case c = quant_case_new(&rng, type_of(type), QUANT_RANDOM, rows, K, N);
  int8_t *q = calloc(rows, xf_quant_ldq(K));
  unsigned char *w = aligned_alloc(XF_QUANT_ALIGN, quant_case_bytes(&c));
  float *y = calloc(rows * N, sizeof *y), *scratch = calloc(XF_LINEAR_SCRATCH, sizeof *scratch);
  assert_true(q && w && y && scratch);
  for (size_t r = 0; r < rows; r++) memcpy(q + r * xf_quant_ldq(K), c.q + r * c.padded, K);
  quant_case_panels(&c, w);
  struct xf_quant_args a = {type, rows, K, N, {q, c.dx, c.sums, c.totals}, w, y, N, scratch};
  xf_quant_avx512amx.linear(&a);
  const float want = quant_case_result(&c, rows - 1, N - 1);
  expect_bits("linear", "avx512amx", &y[rows * N - 1], &want, 1);
  free(q), free(w), free(y), free(scratch);
  quant_case_free(&c);
}

static void test_kept(void **state)
{
  (void)state;
  bool has = false;
  for (const struct xf_kernels *k = NULL; (k = next_quant_isa(k));)
    has |= k == &xf_kernels_avx512amx;
  if (!has) {
    print_message("avx512amx: this machine cannot run it\n");
    skip();
  }
  const struct shapes none = {0}, host = {.palette = 1, .row_bytes = {24, 64}, .rows = {3, 6}};
  const xf_type types[] = {XF_I8_ROW, XF_Q8_0, XF_Q4_K};
  for (size_t i = 0; i < 3; i++)
    for (size_t rows = 9; rows < 40; rows += 10) {
      const struct shapes *before = rows % 4 == 1 ? &none : &host;
      this_case("%s rows %zu", xf_type_name(types[i]), rows);
      configure(before);
      run(types[i], rows);
      const struct shapes after = configuration();
      configure(&none);
      assert_memory_equal(&after, before, sizeof after);
    }
}
#else
static void test_kept(void **state)
{
  (void)state;
  print_message("AMX: not on this architecture\n");
  skip();
}
#endif

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_kept)};
  return cmocka_run_group_tests_name("amx_host", tests, NULL, NULL);
}
