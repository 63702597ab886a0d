/* The ISAs of this build in order of preference, and what this CPU can run. */
#ifndef XF_ISA_H
#define XF_ISA_H

#include <stdbool.h>

#include "kernels/kernels.h"

struct xf_isa {
  const struct xf_kernels *kernels;
  bool (*supported)(void); /* every feature that the ISA's files are compiled with */
};

extern const struct xf_isa xf_isas[];
extern const size_t xf_isa_count;

/* name NULL: XF_ISA, else the best. */
xf_status xf_isa_choose(const char *name, const struct xf_kernels **out, xf_error *error);

#endif
