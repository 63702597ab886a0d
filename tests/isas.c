#include "tests/isas.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "dispatch/isa.h"

enum { MOST_ISAS = 32 };

static int walked[MOST_ISAS];

static size_t place_of(const struct xf_kernels *kernels)
{
  size_t i = 0;
  while (xf_isas[i].kernels != kernels) i++;
  return i;
}

static bool are_variants(size_t i, size_t j)
{
  return xf_isas[i].kernels->linear_f32 == xf_isas[j].kernels->linear_f32;
}

/* Whether a better variant of row i runs here. */
static bool has_better_variant(size_t i)
{
  for (size_t j = 0; j < i; j++)
    if (xf_isas[j].supported() && are_variants(i, j)) return true;
  return false;
}

const struct xf_kernels *next_quant_isa(const struct xf_kernels *previous)
{
  assert_true(xf_isa_count <= MOST_ISAS);
  size_t i = previous ? place_of(previous) + 1 : 0;
  while (i < xf_isa_count && !xf_isas[i].supported()) i++;
  if (i == xf_isa_count) return NULL;
  walked[i] = 1;
  return xf_isas[i].kernels;
}

const struct xf_kernels *next_isa(const struct xf_kernels *previous)
{
  const struct xf_kernels *next = previous;
  do next = next_quant_isa(next); /* passing a variant counts as walking it */
  while (next && has_better_variant(place_of(next)));
  return next;
}

static int was_walked(const char *name, size_t length)
{
  for (size_t i = 0; i < xf_isa_count; i++) {
    const char *isa = xf_isas[i].kernels->name;
    if (strlen(isa) == length && memcmp(isa, name, length) == 0) return walked[i];
  }
  return 0;
}

void test_required_isas(void **state)
{
  (void)state;
  for (size_t i = 0; i < xf_isa_count; i++) {
    if (!walked[i]) print_message("not run, this CPU lacks it: %s\n", xf_isas[i].kernels->name);
  }
  const char *name = getenv("XF_REQUIRE_ISA");
  while (name && *name) {
    size_t length = strcspn(name, ",");
    if (length && !was_walked(name, length))
      fail_msg("XF_REQUIRE_ISA names %.*s, which was not run", (int)length, name);
    name += length;
    name += *name == ',';
  }
}
