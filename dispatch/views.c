#include "dispatch/views.h"

#include "dispatch/error.h"

enum { SIZE_MOST = 1 << 30 }; /* of one dimension */

static xf_status check_type(const xf_view *view, const struct xf_view_rule *rule, xf_error *error)
{
  if (!xf_type_is_among(view->type, rule->types))
    return xf_fail(error, XF_E_UNSUPPORTED, "%s: type %s (%u) is not supported here", rule->name,
                   xf_type_name(view->type), (unsigned)view->type);
  size_t size = xf_type_size(view->type);
  if ((uintptr_t)view->data % size != 0)
    return xf_fail(error, XF_E_ARGUMENT, "%s: data %p is not aligned to %zu bytes", rule->name,
                   view->data, size);
  for (uint32_t i = 0; i < rule->rank; i++)
    if (view->stride[i] % (int64_t)size != 0)
      return xf_fail(error, XF_E_ARGUMENT, "%s: stride[%u] %lld is no multiple of %zu bytes",
                     rule->name, i, (long long)view->stride[i], size);
  return XF_OK;
}

static bool empty(const xf_view *view)
{
  for (uint32_t i = 0; i < view->rank; i++)
    if (view->shape[i] == 0) return true;
  return false;
}

/* Bytes from data to the first element and behind the last; false where that is absurd. */
static bool extent(const xf_view *view, int64_t *low, int64_t *high)
{
  *low = 0;
  *high = (int64_t)xf_type_size(view->type);
  if (empty(view)) return *high = 0, true;
  for (uint32_t i = 0; i < view->rank; i++) {
    int64_t reach;
    if (__builtin_mul_overflow(view->shape[i] - 1, view->stride[i], &reach)) return false;
    if (__builtin_add_overflow(reach < 0 ? *low : *high, reach, reach < 0 ? low : high))
      return false;
  }
  return *low > -((int64_t)1 << 60) && *high < (int64_t)1 << 60;
}

/* The bytes of a view's elements. */
struct range {
  uintptr_t begin, end;
};

/* False where they leave the address space. */
static bool range_of(const xf_view *view, struct range *range)
{
  int64_t low, high;
  return extent(view, &low, &high) &&
         !__builtin_add_overflow((uintptr_t)view->data, low, &range->begin) &&
         !__builtin_add_overflow((uintptr_t)view->data, high, &range->end);
}

static int64_t magnitude(int64_t x)
{
  return x < 0 ? -x : x;
}

/* Whether two elements can share bytes: sorted by stride, each dimension must step over all of the
 * smaller ones. */
static bool shares_elements(const xf_view *view)
{
  int64_t reach = (int64_t)xf_type_size(view->type);
  unsigned taken = 0;
  for (uint32_t n = 0; n < view->rank; n++) {
    uint32_t least = view->rank;
    for (uint32_t i = 0; i < view->rank; i++)
      if (!(taken >> i & 1) && view->shape[i] > 1 &&
          (least == view->rank || magnitude(view->stride[i]) < magnitude(view->stride[least])))
        least = i;
    if (least == view->rank) return false;
    if (magnitude(view->stride[least]) < reach) return true;
    reach += magnitude(view->stride[least]) * (view->shape[least] - 1);
    taken |= 1u << least;
  }
  return false;
}

xf_status xf_view_check(const xf_view *view, const struct xf_view_rule *rule, xf_error *error)
{
  if (!view->data) return xf_fail(error, XF_E_ARGUMENT, "%s: data is NULL", rule->name);
  if (view->rank != rule->rank)
    return xf_fail(error, XF_E_SHAPE, "%s: rank %u; %u is needed", rule->name, view->rank,
                   rule->rank);
  xf_status status = check_type(view, rule, error);
  if (status) return status;
  for (uint32_t i = 0; i < rule->rank; i++) {
    if (view->shape[i] < 0 || view->shape[i] > SIZE_MOST)
      return xf_fail(error, XF_E_ARGUMENT, "%s: shape[%u] %lld is not in 0 … %d", rule->name, i,
                     (long long)view->shape[i], SIZE_MOST);
    if (rule->shape[i] >= 0 && view->shape[i] != rule->shape[i])
      return xf_fail(error, XF_E_SHAPE, "%s: shape[%u] is %lld; %lld is needed", rule->name, i,
                     (long long)view->shape[i], (long long)rule->shape[i]);
  }
  uint32_t last = rule->rank - 1;
  if (rule->dense && view->shape[last] > 1 &&
      view->stride[last] != (int64_t)xf_type_size(view->type))
    return xf_fail(error, XF_E_UNSUPPORTED, "%s: stride[%u] is %lld bytes; it must be %zu (dense)",
                   rule->name, last, (long long)view->stride[last], xf_type_size(view->type));
  struct range range;
  if (!range_of(view, &range))
    return xf_fail(error, XF_E_ARGUMENT, "%s: its strides reach over 2^60 bytes or out of memory",
                   rule->name);
  if (rule->written && !empty(view) && shares_elements(view))
    return xf_fail(error, XF_E_ARGUMENT, "%s: two of its elements share memory; check its strides",
                   rule->name);
  return XF_OK;
}

static bool ranges_meet(const struct range *a, const struct range *b)
{
  return a->begin < a->end && b->begin < b->end && a->begin < b->end && b->begin < a->end;
}

bool xf_view_overlaps(const xf_view *view, const void *memory, size_t bytes)
{
  struct range a, b = {(uintptr_t)memory, (uintptr_t)memory + bytes};
  return view->data && range_of(view, &a) && ranges_meet(&a, &b);
}

bool xf_views_overlap(const xf_view *a, const xf_view *b)
{
  struct range x, y;
  return a->data && b->data && range_of(a, &x) && range_of(b, &y) && ranges_meet(&x, &y);
}

static int64_t row_bytes(const xf_view *view)
{
  return view->shape[1] * (int64_t)xf_type_size(view->type);
}

bool xf_rows_overlap(const xf_view *a, const xf_view *b)
{
  if (!xf_views_overlap(a, b)) return false;
  if (a->shape[0] == 1 && b->shape[0] == 1) return true;
  if (a->stride[0] != b->stride[0] || a->stride[0] == 0) return true;
  int64_t stride = magnitude(a->stride[0]);
  /* a's rows begin that far behind rows of b, as if there were rows without end. */
  int64_t behind = (int64_t)((uintptr_t)a->data - (uintptr_t)b->data) % stride;
  if (behind < 0) behind += stride;
  return behind < row_bytes(b) || behind + row_bytes(a) > stride;
}
