/* Makes the library's allocations fail on purpose. A test that uses it is added with
 * xf_failing_alloc_test() in place of xf_test(). The usual loop:
 *
 *   for (size_t n = 0;; n++) {
 *     failing_alloc_after(n);
 *     if (!failing_alloc_failed(work(&error), &error)) break; // it needs no more than n
 * allocations
 *   }
 */
#ifndef XF_TESTS_FAILING_ALLOC_H
#define XF_TESTS_FAILING_ALLOC_H

#include <stdbool.h>

#include "exactflash/model.h"

/* The next n calls of aligned_alloc (all that dispatch/memory.c does) succeed, every later one
 * gives NULL. */
void failing_alloc_after(size_t n);
/* Allocations succeed again, as at the start. Returns how many were made to fail. */
size_t failing_alloc_off(void);

/* The end of an attempt: false when the allocations were enough, and else the status must be
 * XF_E_MEMORY, with a message. */
bool failing_alloc_failed(xf_status status, xf_error *error);
/* That loop with the opening of a model; returns how many allocations it needs. */
size_t failing_alloc_open(const xf_context *context, const char *path);

/* The bytes of the largest request since the last call, granted or not. */
size_t failing_alloc_largest(void);

#endif
