#include "tests/isas.h"

#include <stdlib.h>
#include <string.h>

#include "dispatch/isa.h"

enum { MOST_ISAS = 32 };

static int walked[MOST_ISAS];

const struct xf_kernels *next_isa(const struct xf_kernels *previous)
{
  size_t i = 0;
  assert_true(xf_isa_count <= MOST_ISAS);
  if (previous) {
    while (xf_isas[i].kernels != previous) i++;
    i++;
  }
  while (i < xf_isa_count && !xf_isas[i].supported()) i++;
  if (i == xf_isa_count) return NULL;
  walked[i] = 1;
  return xf_isas[i].kernels;
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
