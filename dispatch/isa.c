#include "dispatch/isa.h"

#include <cpuinfo.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dispatch/error.h"
#include "exactflash/context.h"

static bool is_intel(void)
{
  const struct cpuinfo_core *core = cpuinfo_initialize() ? cpuinfo_get_core(0) : NULL;
  return core && core->vendor == cpuinfo_vendor_intel;
}

#if defined(__x86_64__)

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

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

static bool has_avx512vnni(void)
{
  return has_avx512() && cpuinfo_has_x86_avx512vnni();
}

/* Whether the system keeps the tiles of threads apart. Linux wants to be asked by each process, and
 * refuses where a signal's stack has no room for them. */
static bool may_use_tiles(void)
{
  enum { ARCH_REQ_XCOMP_PERM = 0x1023, TILE_CONFIG = 17, TILE_DATA = 18 };
  unsigned eax, edx;
  __asm__("xgetbv" : "=a"(eax), "=d"(edx) : "c"(0));
  const unsigned both = 1u << TILE_CONFIG | 1u << TILE_DATA;
  return (eax & both) == both && syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, TILE_DATA) == 0;
}

/* cpuinfo does not know AMX: bits of leaf 7's EDX. */
enum { AMX_BF16 = 1 << 22, AMX_TILES = 1 << 24, AMX_INT8 = 1 << 25 };

static bool has_amx(unsigned features)
{
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) && (edx & features) == features;
}

/* Leaf 1D: 8 tiles of 16 rows of 64 bytes. */
static bool has_avx512amx(void)
{
  const unsigned tiles = 8u << 16 | 64;
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (!has_avx512vnni() || !has_amx(AMX_TILES | AMX_INT8)) return false;
  if (!__get_cpuid_count(0x1D, 1, &eax, &ebx, &ecx, &edx)) return false;
  return ebx == tiles && (ecx & 0xFFFF) == 16 && may_use_tiles();
}

/* cpuinfo does not know AVX-VNNI: leaf 7.1, EAX bit 4. */
static bool has_avx2vnni(void)
{
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return has_avx2() && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) && (eax & 1u << 4);
}

const struct xf_isa xf_isas[] = {
    {&xf_kernels_avx512amx, has_avx512amx}, {&xf_kernels_avx512vnni, has_avx512vnni},
    {&xf_kernels_avx512, has_avx512},       {&xf_kernels_avx2vnni, has_avx2vnni},
    {&xf_kernels_avx2, has_avx2},           {&xf_kernels_scalar, has_scalar},
};

/* Variants share the float kernels. Intel's VDPBF16PS has half the rate of two FMAs' products. */
const struct xf_fast_kernels *xf_isa_fast(const struct xf_kernels *kernels)
{
  const bool avx512 = kernels->linear_f32 == xf_kernels_avx512.linear_f32;
  if (!avx512 || !cpuinfo_has_x86_avx512bf16()) return NULL;
  if (kernels == &xf_kernels_avx512amx && has_amx(AMX_BF16)) return &xf_fast_avx512amx;
  return is_intel() ? NULL : &xf_fast_avx512bf16;
}

#elif defined(__aarch64__)

#include <sys/auxv.h>

static bool has_scalar(void)
{
  return cpuinfo_initialize();
}

static bool has_neon(void)
{
  return has_scalar() && cpuinfo_has_arm_neon();
}

static bool has_neondot(void)
{
  return has_neon() && cpuinfo_has_arm_neon_dot();
}

/* Not every cpuinfo knows I8MM; Linux does. */
static bool has_neoni8mm(void)
{
  return has_neondot() && (getauxval(AT_HWCAP2) & HWCAP2_I8MM);
}

const struct xf_isa xf_isas[] = {
    {&xf_kernels_neoni8mm, has_neoni8mm},
    {&xf_kernels_neondot, has_neondot},
    {&xf_kernels_neon, has_neon},
    {&xf_kernels_scalar, has_scalar},
};

const struct xf_fast_kernels *xf_isa_fast(const struct xf_kernels *kernels)
{
  (void)kernels;
  return NULL;
}

#endif

bool xf_isa_far_cache(void)
{
  return is_intel();
}

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

static xf_status fail_unknown(const char *name, const char *source, xf_error *error)
{
  char names[200] = "";
  for (size_t i = 0; i < xf_isa_count; i++) {
    size_t used = strlen(names);
    snprintf(names + used, sizeof names - used, "%s%s", used ? ", " : "", xf_isa_name(i));
  }
  return xf_fail(error, XF_E_ARGUMENT, "%s: unknown ISA '%s'; this build has %s", source, name,
                 names);
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
  return fail_unknown(name, source, error);
}

xf_status xf_isa_choose(const char *name, const struct xf_kernels **out, xf_error *error)
{
  if (name) return choose_named(name, "option isa", out, error);
  const char *variable = getenv("XF_ISA");
  if (variable && *variable) return choose_named(variable, "environment XF_ISA", out, error);
  return choose_best(out, error);
}
