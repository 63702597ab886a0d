/* The check of each context's first moment finds kernels that are wrong. */
#include <math.h>
#include <string.h>

#include "dispatch/isa.h"
#include "dispatch/numerics_check.h"
#include "kernels/quant.h"
#include "tests/support.h"

static xf_status check(const struct xf_kernels *kernels, xf_error *error)
{
  const xf_context context = {.kernels = kernels, .threads = 1};
  *error = (xf_error){0};
  return xf_numerics_check(&context, error);
}

static void test_all_isas_pass(void **state)
{
  (void)state;
  for (size_t i = 0; i < xf_isa_count; i++) {
    xf_error error;
    if (!xf_isas[i].supported()) continue;
    assert_int_equal(check(xf_isas[i].kernels, &error), XF_OK);
  }
}

/* One product of the last row is wrong by one. */
static void wrong_linear(const struct xf_quant_args *a)
{
  xf_kernels_scalar.quant->linear(a);
  a->y[(a->rows - 1) * a->ldy + a->n - 1] += 1;
}

static void test_wrong_products_are_found(void **state)
{
  (void)state;
  struct xf_quant_kernels quant = *xf_kernels_scalar.quant;
  quant.linear = wrong_linear;
  struct xf_kernels kernels = xf_kernels_scalar;
  kernels.quant = &quant;
  xf_error error;
  assert_int_equal(check(&kernels, &error), XF_E_UNSUPPORTED);
  assert_non_null(strstr(error.message, "8-bit products on scalar"));
}

static float wrong_log_sum_exp(float m, float l)
{
  return nextafterf(xf_kernels_scalar.log_sum_exp(m, l), 1e9f);
}

static void test_wrong_functions_are_found(void **state)
{
  (void)state;
  struct xf_kernels kernels = xf_kernels_scalar;
  kernels.log_sum_exp = wrong_log_sum_exp;
  xf_error error;
  assert_int_equal(check(&kernels, &error), XF_E_UNSUPPORTED);
  assert_non_null(strstr(error.message, "logf on scalar"));
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_all_isas_pass),
      cmocka_unit_test(test_wrong_products_are_found),
      cmocka_unit_test(test_wrong_functions_are_found),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
