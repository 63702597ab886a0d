/* Linear layers for hosts. */
#include "exactflash/linear.h"

#include "dispatch/error.h"
#include "dispatch/linear.h"
#include "dispatch/memory.h"
#include "dispatch/views.h"

enum { F32 = 1u << XF_F32, WEIGHT_TYPES = 1u << XF_F32 | 1u << XF_F16 | 1u << XF_BF16 };

xf_status xf_linear_create(const xf_context *context, const xf_view *w, xf_linear **out,
                           xf_error *error)
{
  if (!context || !w || !out)
    return xf_fail(error, XF_E_ARGUMENT, "xf_linear_create: context, w or out is NULL");
  *out = NULL;
  struct xf_view_rule rule = {"w", 2, WEIGHT_TYPES, {-1, -1, 0, 0}, true, false};
  xf_status status = xf_view_check(w, &rule, error);
  if (status) return status;
  if (w->shape[0] == 0 || w->shape[1] == 0)
    return xf_fail(error, XF_E_SHAPE, "w: [%lld, %lld] is empty", (long long)w->shape[0],
                   (long long)w->shape[1]);
  xf_linear *linear = xf_alloc_zeroed(1, sizeof *linear);
  if (!linear) return xf_fail(error, XF_E_MEMORY, "out of memory for a linear layer");
  struct xf_matrix matrix = {w->data, w->type, (size_t)w->shape[0], (size_t)w->shape[1], 0, 0};
  if (matrix.n > 1) matrix.gap = w->stride[0] - w->shape[1] * (int64_t)xf_type_size(w->type);
  status = xf_linear_pack(context, &matrix, 1, linear, error);
  if (status)
    xf_linear_destroy(linear);
  else
    *out = linear;
  return status;
}

void xf_linear_destroy(xf_linear *linear)
{
  if (!linear) return;
  xf_linear_free(linear);
  xf_free(linear);
}

size_t xf_linear_workspace(const xf_context *context)
{
  return !context ? 0 : context->threads * XF_LINEAR_SCRATCH * sizeof(float);
}

xf_status xf_linear_run(const xf_context *context, const xf_linear *linear, const xf_view *x,
                        const xf_view *y, void *workspace, size_t bytes, xf_error *error)
{
  if (!context || !linear || !x || !y)
    return xf_fail(error, XF_E_ARGUMENT, "xf_linear_run: context, linear, x or y is NULL");
  struct xf_view_rule rule = {"x", 2, F32, {-1, (int64_t)linear->k, 0, 0}, true, false};
  xf_status status = xf_view_check(x, &rule, error);
  if (status) return status;
  rule = (struct xf_view_rule){"y", 2, F32, {x->shape[0], (int64_t)linear->n, 0, 0}, true, true};
  status = xf_view_check(y, &rule, error);
  if (status) return status;
  size_t rows = (size_t)x->shape[0], needed = xf_linear_workspace(context);
  if (rows > 1 && (x->stride[0] < 0 || y->stride[0] < 0))
    return xf_fail(error, XF_E_UNSUPPORTED, "%s: stride[0] is negative",
                   x->stride[0] < 0 ? "x" : "y");
  if (!workspace || bytes < needed || (uintptr_t)workspace % sizeof(float))
    return xf_fail(error, XF_E_ARGUMENT, "workspace: %p, %zu bytes; %zu are needed, aligned to 4",
                   workspace, bytes, needed);
  if (xf_rows_overlap(x, y)) return xf_fail(error, XF_E_ARGUMENT, "y: overlaps x");
  if (xf_view_overlaps(y, workspace, needed) || xf_view_overlaps(x, workspace, needed))
    return xf_fail(error, XF_E_ARGUMENT, "workspace: overlaps x or y");
  if (rows > 0)
    xf_linear_apply(context, linear, rows, x->data, (size_t)x->stride[0] / sizeof(float),
                    (float *)(uintptr_t)y->data, (size_t)y->stride[0] / sizeof(float), workspace);
  return XF_OK;
}
