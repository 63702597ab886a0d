/* Makes the library's allocations fail on purpose. A test that uses it is added with
 * xf_failing_alloc_test() in place of xf_test(). The usual loop:
 *
 *   for (size_t n = 0;; n++) {
 *     failing_alloc_after(n);
 *     xf_status status = work();
 *     if (failing_alloc_off() == 0) break; // it needs no more than n allocations
 *     assert_int_equal(status, XF_E_MEMORY);
 *   }
 */
#ifndef XF_TESTS_FAILING_ALLOC_H
#define XF_TESTS_FAILING_ALLOC_H

#include <stddef.h>

/* The next n calls of aligned_alloc (all that dispatch/memory.c does) succeed, every later one
 * gives NULL. */
void failing_alloc_after(size_t n);
/* Allocations succeed again, as at the start. Returns how many were made to fail. */
size_t failing_alloc_off(void);

/* The bytes of the largest request since the last call, granted or not. */
size_t failing_alloc_largest(void);

#endif
