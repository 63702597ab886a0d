/* Linear layers for hosts. */
#include "exactflash/linear.h"

#include "dispatch/error.h"
#include "dispatch/linear.h"
#include "dispatch/memory.h"
#include "dispatch/views.h"

enum { F32 = 1u << XF_F32, WEIGHT_TYPES = 1u << XF_F32 | 1u << XF_F16 | 1u << XF_BF16 };

/* Rows that are not one behind the other are packed as parts of one row each. */
static xf_status pack_rows(const xf_context *context, const xf_view *w, struct xf_linear *out,
                           xf_error *error)
{
  size_t n = (size_t)w->shape[0], k = (size_t)w->shape[1], parts = n;
  size_t rows = 1;
  if (w->stride[0] == w->shape[1] * (int64_t)xf_type_size(w->type)) rows = n, parts = 1;
  struct xf_matrix *matrices = xf_alloc_zeroed(parts, sizeof *matrices);
  if (!matrices) return xf_fail(error, XF_E_MEMORY, "out of memory for weights [%zu, %zu]", n, k);
  for (size_t i = 0; i < parts; i++) {
    matrices[i].data = (const char *)w->data + (int64_t)i * w->stride[0];
    matrices[i].type = w->type;
    matrices[i].n = rows;
    matrices[i].k = k;
  }
  xf_status status = xf_linear_pack(context, matrices, parts, out, error);
  xf_free(matrices);
  return status;
}

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
  status = pack_rows(context, w, linear, error);
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
  return context->threads * XF_LINEAR_SCRATCH * sizeof(float);
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
  if (x->stride[0] < 0 || y->stride[0] < 0)
    return xf_fail(error, XF_E_UNSUPPORTED, "x, y: negative row strides");
  if (!workspace || bytes < xf_linear_workspace(context) || (uintptr_t)workspace % sizeof(float))
    return xf_fail(error, XF_E_ARGUMENT, "workspace: %zu bytes; %zu are needed, aligned to 4",
                   bytes, xf_linear_workspace(context));
  if (xf_views_overlap(x, y) || xf_view_overlaps(y, workspace, bytes) ||
      xf_view_overlaps(x, workspace, bytes))
    return xf_fail(error, XF_E_ARGUMENT, "x, y and the workspace must not overlap");
  if (x->shape[0] > 0)
    xf_linear_apply(context, linear, (size_t)x->shape[0], x->data,
                    (size_t)x->stride[0] / sizeof(float), (float *)(uintptr_t)y->data,
                    (size_t)y->stride[0] / sizeof(float), workspace);
  return XF_OK;
}
