/* What every ISA's vocabulary starts from. */
#ifndef XF_SIMD_COMMON_H
#define XF_SIMD_COMMON_H

#include <math.h>
#include <stdint.h>
#include <string.h>

/* Every ISA here has FMA, and sleef.h declares the scalar FMA functions only where this says so. */
#ifndef FP_FAST_FMA
#define FP_FAST_FMA 1
#endif
#include <sleef.h>

#include "kernels/kernels.h"

/* Tiles are written once with their shape as arguments, and become one loop per shape by inlining.
 */
#define XF_INLINE static inline __attribute__((always_inline))
/* Kept out of line, so that its loops have all registers. */
#define XF_APART static __attribute__((noinline))
#if defined(XF_SANITIZED) /* an instrumented unrolled tile takes compilers minutes */
#define XF_UNROLL
#elif defined(__clang__)
#define XF_UNROLL _Pragma("clang loop unroll(full)")
#else
#define XF_UNROLL _Pragma("GCC unroll 32")
#endif

/* SLEEF's deterministic functions (cmake/dependencies.cmake). */
#ifdef XF_SLEEF_FINZ
#define XF_SLEEF(function) Sleef_finz_##function
#else
#define XF_SLEEF(function) Sleef_##function
#endif

XF_INLINE float xf_float_of_bits(uint32_t bits)
{
  float f;
  memcpy(&f, &bits, sizeof f);
  return f;
}

XF_INLINE uint32_t xf_bits_of_float(float f)
{
  uint32_t bits;
  memcpy(&bits, &f, sizeof bits);
  return bits;
}

/* max of numerics 1: the second operand where either is NaN. */
XF_INLINE float xf_max(float a, float b)
{
  return a > b ? a : b;
}

#endif
