/* The ISAs of this build in order of preference, and what this CPU can run. */
#ifndef XF_ISA_H
#define XF_ISA_H

#include <stdbool.h>

#include "kernels/fast.h"

struct xf_isa {
  const struct xf_kernels *kernels;
  bool (*supported)(void); /* every feature that the ISA's files are compiled with */
};

extern const struct xf_isa xf_isas[];
extern const size_t xf_isa_count;

/* The kernels of fast mode of that ISA; NULL: the ISA or the CPU has none that are faster. */
const struct xf_fast_kernels *xf_isa_fast(const struct xf_kernels *kernels);

/* Whether tiles gain by asking the second cache for what they use some steps later: Intel's CPUs
 * do; on others it was not measured (docs/performance.md). */
bool xf_isa_far_cache(void);

/* name NULL: XF_ISA, else the best. */
xf_status xf_isa_choose(const char *name, const struct xf_kernels **out, xf_error *error);

#endif
