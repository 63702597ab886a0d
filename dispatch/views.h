/* Checks of a host's views, shared by the public operators. */
#ifndef XF_VIEWS_H
#define XF_VIEWS_H

#include <stdbool.h>

#include "exactflash/tensor.h"

/* Whether a type, which may be any number of a caller, is among the bits 1 << xf_type. */
static inline bool xf_type_is_among(xf_type type, unsigned types)
{
  return (unsigned)type <= 31 && (types >> type & 1);
}

/* What a view must look like. */
struct xf_view_rule {
  const char *name; /* for messages: "q" */
  uint32_t rank;
  unsigned types;   /* bits 1 << xf_type */
  int64_t shape[4]; /* −1: any size */
  bool dense;       /* the innermost stride is the element's size */
  bool written;     /* no element may share its bytes with another */
};

/* XF_E_ARGUMENT (NULL, misaligned, absurd sizes), XF_E_SHAPE, XF_E_UNSUPPORTED (type, stride). */
xf_status xf_view_check(const xf_view *view, const struct xf_view_rule *rule, xf_error *error);

/* Whether the bytes from the first to the last element of two views (data NULL: none) meet. */
bool xf_views_overlap(const xf_view *a, const xf_view *b);
/* The same for the rows of two views [rows, n] of dense rows, where columns beside each other in
 * one buffer do not meet. */
bool xf_rows_overlap(const xf_view *a, const xf_view *b);
/* The same as the first for a view and plain memory. */
bool xf_view_overlaps(const xf_view *view, const void *memory, size_t bytes);

#endif
