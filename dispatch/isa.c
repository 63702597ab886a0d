#include "dispatch/isa.h"

#include <cpuinfo.h>
#include <stdlib.h>
#include <string.h>

#include "dispatch/error.h"
#include "exactflash/context.h"

#if defined(__x86_64__)

/* FMA3 is the least: fmaf in the scalar kernels is one instruction. */
static bool has_scalar(void)
{
  return cpuinfo_initialize() && cpuinfo_has_x86_fma3();
}

static bool has_avx2(void)
{
  return has_scalar() && cpuinfo_has_x86_avx2() && cpuinfo_has_x86_f16c();
}

static bool has_avx512(void)
{
  return has_avx2() && cpuinfo_has_x86_avx512f() && cpuinfo_has_x86_avx512bw() &&
         cpuinfo_has_x86_avx512dq() && cpuinfo_has_x86_avx512vl();
}

const struct xf_isa xf_isas[] = {
    {&xf_kernels_avx512, has_avx512},
    {&xf_kernels_avx2, has_avx2},
    {&xf_kernels_scalar, has_scalar},
};

#elif defined(__aarch64__)

static bool has_scalar(void)
{
  return cpuinfo_initialize();
}

static bool has_neon(void)
{
  return has_scalar() && cpuinfo_has_arm_neon();
}

const struct xf_isa xf_isas[] = {
    {&xf_kernels_neon, has_neon},
    {&xf_kernels_scalar, has_scalar},
};

#endif

const size_t xf_isa_count = sizeof xf_isas / sizeof *xf_isas;

const char *xf_isa_name(size_t index)
{
  return index < xf_isa_count ? xf_isas[index].kernels->name : NULL;
}

int xf_isa_supported(size_t index)
{
  return index < xf_isa_count && xf_isas[index].supported();
}

static xf_status choose_best(const struct xf_kernels **out, xf_error *error)
{
  for (size_t i = 0; i < xf_isa_count; i++) {
    if (!xf_isas[i].supported()) continue;
    *out = xf_isas[i].kernels;
    return XF_OK;
  }
  return xf_fail(error, XF_E_CPU,
                 "this CPU has no FMA3 (or cannot be identified); exactflash needs "
                 "an x86-64 CPU of 2013 or later, or aarch64");
}

static xf_status choose_named(const char *name, const char *source, const struct xf_kernels **out,
                              xf_error *error)
{
  for (size_t i = 0; i < xf_isa_count; i++) {
    if (strcmp(name, xf_isas[i].kernels->name) != 0) continue;
    if (!xf_isas[i].supported())
      return xf_fail(error, XF_E_CPU, "%s: this CPU has no %s", source, name);
    *out = xf_isas[i].kernels;
    return XF_OK;
  }
  return xf_fail(error, XF_E_ARGUMENT, "%s: unknown ISA '%s'; this build has %s, %s%s%s", source,
                 name, xf_isa_name(0), xf_isa_name(1), xf_isa_count > 2 ? ", " : "",
                 xf_isa_count > 2 ? xf_isa_name(2) : "");
}

xf_status xf_isa_choose(const char *name, const struct xf_kernels **out, xf_error *error)
{
  if (name) return choose_named(name, "option isa", out, error);
  const char *variable = getenv("XF_ISA");
  if (variable && *variable) return choose_named(variable, "environment XF_ISA", out, error);
  return choose_best(out, error);
}
