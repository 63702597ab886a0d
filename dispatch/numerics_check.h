/* Does this build, on this CPU, with this SLEEF, give the bits of its numerics version? */
#ifndef XF_NUMERICS_CHECK_H
#define XF_NUMERICS_CHECK_H

#include "dispatch/context.h"

/* XF_E_UNSUPPORTED, naming what differs: a function, or products of 8-bit numbers. */
xf_status xf_numerics_check(const xf_context *context, xf_error *error);

#endif
