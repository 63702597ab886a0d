#include "dispatch/views.h"

#include "dispatch/error.h"

enum { SIZE_MOST = 1 << 30 }; /* of one dimension */

static xf_status check_type(const xf_view *view, const struct xf_view_rule *rule, xf_error *error)
{
  unsigned type = (unsigned)view->type;
  if (type > 31 || !(rule->types >> type & 1))
    return xf_fail(error, XF_E_UNSUPPORTED, "%s: type %s (%u) is not supported here", rule->name,
                   xf_type_name(view->type), type);
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

/* Bytes from data to the first element and behind the last; false on overflow. */
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
  int64_t low, high;
  if (!extent(view, &low, &high))
    return xf_fail(error, XF_E_ARGUMENT, "%s: its strides reach over 2^60 bytes", rule->name);
  if (rule->written && !empty(view) && shares_elements(view))
    return xf_fail(error, XF_E_ARGUMENT, "%s: two of its elements share memory; check its strides",
                   rule->name);
  return XF_OK;
}

static bool ranges_meet(uintptr_t a, uintptr_t a_end, uintptr_t b, uintptr_t b_end)
{
  return a < b_end && b < a_end;
}

bool xf_view_overlaps(const xf_view *view, const void *memory, size_t bytes)
{
  int64_t low, high;
  if (!view->data || !extent(view, &low, &high)) return false;
  uintptr_t data = (uintptr_t)view->data, start = (uintptr_t)memory;
  return ranges_meet(data + (uintptr_t)low, data + (uintptr_t)high, start, start + bytes);
}

bool xf_views_overlap(const xf_view *a, const xf_view *b)
{
  int64_t low, high;
  if (!b->data || !extent(b, &low, &high)) return false;
  return xf_view_overlaps(a, (const char *)b->data + low, (size_t)(high - low));
}
