/* Row-by-row operators for hosts. */
#include "exactflash/ops.h"

#include <float.h>

#include "dispatch/context.h"
#include "dispatch/error.h"
#include "dispatch/views.h"

enum { F32 = 1u << XF_F32, POSITION_MAX = 1 << 24 };

/* One operator call: row i of each view. */
struct rows {
  const struct xf_kernels *kernels;
  const xf_view *a, *b, *y;
  const float *w;
  float eps;
};

static float *row_at(const xf_view *view, size_t i)
{
  return (float *)(void *)((char *)(uintptr_t)view->data + (int64_t)i * view->stride[0]);
}

/* In place is allowed, any other overlap is not: rows would read what others wrote. */
static bool is_in_place(const xf_view *x, const xf_view *y)
{
  return x->data == y->data && (x->stride[0] == y->stride[0] || y->shape[0] <= 1);
}

static xf_status check_output(const xf_view *y, xf_error *error)
{
  struct xf_view_rule rule = {"y", 2, F32, {-1, -1, 0, 0}, true, true};
  return xf_view_check(y, &rule, error);
}

/* Of an input as large as y, which has been checked. */
static xf_status check_input(const xf_view *x, const char *name, const xf_view *y, xf_error *error)
{
  struct xf_view_rule rule = {name, 2, F32, {y->shape[0], y->shape[1], 0, 0}, true, false};
  xf_status status = xf_view_check(x, &rule, error);
  if (!status && xf_rows_overlap(x, y) && !is_in_place(x, y))
    status = xf_fail(error, XF_E_ARGUMENT, "y: overlaps %s without being it", name);
  return status;
}

/* Of an array that is read while `written` is being written. */
static xf_status check_array(const char *name, const void *data, size_t n, size_t size,
                             const char *written_name, const xf_view *written, xf_error *error)
{
  if ((uintptr_t)data % size)
    return xf_fail(error, XF_E_ARGUMENT, "%s: %p is not aligned to %zu bytes", name, data, size);
  if (xf_view_overlaps(written, data, n * size))
    return xf_fail(error, XF_E_ARGUMENT, "%s: overlaps %s", name, written_name);
  return XF_OK;
}

static void rms_norm_row(void *arg, size_t slot, size_t i)
{
  (void)slot;
  const struct rows *r = arg;
  r->kernels->rms_norm((size_t)r->a->shape[1], row_at(r->a, i), r->w, r->eps, row_at(r->y, i));
}

xf_status xf_rms_norm(const xf_context *context, const xf_view *x, const float *w, float eps,
                      const xf_view *y, xf_error *error)
{
  if (!context || !x || !w || !y)
    return xf_fail(error, XF_E_ARGUMENT, "xf_rms_norm: context, x, w or y is NULL");
  if (!(eps >= 0 && eps <= FLT_MAX))
    return xf_fail(error, XF_E_ARGUMENT, "eps: %g is negative or not finite", (double)eps);
  xf_status status = check_output(y, error);
  if (!status) status = check_input(x, "x", y, error);
  if (!status) status = check_array("w", w, (size_t)y->shape[1], sizeof *w, "y", y, error);
  if (status) return status;
  struct rows rows = {.kernels = context->kernels, .a = x, .y = y, .w = w, .eps = eps};
  if (x->shape[1] > 0) xf_parallel(context, (size_t)x->shape[0], rms_norm_row, &rows);
  return XF_OK;
}

static void silu_row(void *arg, size_t slot, size_t i)
{
  (void)slot;
  const struct rows *r = arg;
  r->kernels->silu_mul((size_t)r->y->shape[1], row_at(r->a, i), row_at(r->b, i), row_at(r->y, i));
}

xf_status xf_silu_mul(const xf_context *context, const xf_view *gate, const xf_view *up,
                      const xf_view *y, xf_error *error)
{
  if (!context || !gate || !up || !y)
    return xf_fail(error, XF_E_ARGUMENT, "xf_silu_mul: context, gate, up or y is NULL");
  xf_status status = check_output(y, error);
  if (!status) status = check_input(gate, "gate", y, error);
  if (!status) status = check_input(up, "up", y, error);
  if (status) return status;
  struct rows rows = {.kernels = context->kernels, .a = gate, .b = up, .y = y};
  xf_parallel(context, (size_t)y->shape[0], silu_row, &rows);
  return XF_OK;
}

struct rotation {
  const struct xf_kernels *kernels;
  const xf_view *x;
  const int64_t *positions;
  const float *inv_freq;
};

static void rope_token(void *arg, size_t slot, size_t i)
{
  (void)slot;
  const struct rotation *r = arg;
  size_t half = (size_t)r->x->shape[2] / 2;
  float cosines[XF_HEAD_DIM_MAX / 2], sines[XF_HEAD_DIM_MAX / 2];
  r->kernels->rope_angles(half, (float)r->positions[i], r->inv_freq, cosines, sines);
  for (int64_t head = 0; head < r->x->shape[1]; head++) {
    char *x = (char *)row_at(r->x, i) + head * r->x->stride[1];
    r->kernels->rope(half, cosines, sines, (float *)(void *)x);
  }
}

xf_status xf_rope(const xf_context *context, const xf_view *x, const int64_t *positions,
                  const float *inv_freq, xf_error *error)
{
  if (!context || !x || !positions || !inv_freq)
    return xf_fail(error, XF_E_ARGUMENT, "xf_rope: context, x, positions or inv_freq is NULL");
  struct xf_view_rule rule = {"x", 3, F32, {-1, -1, -1, 0}, true, true};
  xf_status status = xf_view_check(x, &rule, error);
  if (status) return status;
  if (x->shape[2] % 2 || x->shape[2] > XF_HEAD_DIM_MAX)
    return xf_fail(error, XF_E_UNSUPPORTED, "x: head_dim %lld is not even and at most %d",
                   (long long)x->shape[2], XF_HEAD_DIM_MAX);
  size_t tokens = (size_t)x->shape[0], half = (size_t)x->shape[2] / 2;
  status = check_array("positions", positions, tokens, sizeof *positions, "x", x, error);
  if (!status) status = check_array("inv_freq", inv_freq, half, sizeof *inv_freq, "x", x, error);
  if (status) return status;
  for (int64_t i = 0; i < x->shape[0]; i++)
    if (positions[i] < 0 || positions[i] > POSITION_MAX)
      return xf_fail(error, XF_E_ARGUMENT, "positions[%lld]: %lld is not in 0 … 2^24", (long long)i,
                     (long long)positions[i]);
  struct rotation rotation = {context->kernels, x, positions, inv_freq};
  xf_parallel(context, tokens, rope_token, &rotation);
  return XF_OK;
}
