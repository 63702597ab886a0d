/* Tells ThreadSanitizer that a loop's threads see what the caller wrote before it, and the caller
 * what they wrote. A loop gives that order, but libpthreadpool as distributions build it is not
 * instrumented. Nothing in any other build. */
#ifndef XF_HANDOVER_H
#define XF_HANDOVER_H

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define XF_TSAN 1
#endif
#elif defined(__SANITIZE_THREAD__)
#define XF_TSAN 1
#endif

#ifdef XF_TSAN
#include <sanitizer/tsan_interface.h>
#endif

static inline void xf_handover_give(void *loop)
{
  (void)loop;
#ifdef XF_TSAN
  __tsan_release(loop);
#endif
}

static inline void xf_handover_take(void *loop)
{
  (void)loop;
#ifdef XF_TSAN
  __tsan_acquire(loop);
#endif
}

#endif
