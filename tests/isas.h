/* The ISAs that a test must cover. */
#ifndef XF_TESTS_ISAS_H
#define XF_TESTS_ISAS_H

#include "kernels/kernels.h"
#include "tests/support.h"

/* Walks the ISAs that this machine can run, in the library's order of preference, each family of
 * variants once: they share all kernels but those of 8- and 4-bit weights.
 *   for (const struct xf_kernels *k = NULL; (k = next_isa(k));) … */
const struct xf_kernels *next_isa(const struct xf_kernels *previous);
/* The same with every variant. */
const struct xf_kernels *next_quant_isa(const struct xf_kernels *previous);

/* The last test of every program that walks them. Names the ISAs that this machine lacks, and fails
 * when one that XF_REQUIRE_ISA (a comma list) names was not walked: a skip cannot look green. */
void test_required_isas(void **state);

#endif
