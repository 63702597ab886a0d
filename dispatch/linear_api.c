/* Linear layers for hosts. */
#include "exactflash/linear.h"

#include <stdatomic.h>

#include "dispatch/error.h"
#include "dispatch/linear.h"
#include "dispatch/memory.h"
#include "dispatch/quant.h"
#include "dispatch/quantize.h"
#include "dispatch/views.h"

enum { F32 = 1u << XF_F32, FLOATS = 1u << XF_F32 | 1u << XF_F16 | 1u << XF_BF16 };

/* Rows of so many bytes. */
static xf_view bytes_of(const xf_view *w, int64_t row_bytes)
{
  xf_view bytes = *w;
  bytes.type = XF_I8;
  bytes.shape[1] = row_bytes;
  bytes.stride[1] = 1;
  return bytes;
}

/* The view of a row's blocks is checked as one of bytes. */
static xf_status check_blocks(const xf_view *w, xf_error *error)
{
  struct xf_view_rule rule = {"w", 2, 1u << XF_I8, {-1, -1, 0, 0}, true, false};
  xf_view bytes = bytes_of(w, w->shape[1]);
  xf_status status = xf_view_check(&bytes, &rule, error);
  if (status) return status;
  size_t k = (size_t)w->shape[1], block = xf_quant_block(w->type);
  if (k % block != 0)
    return xf_fail(error, XF_E_SHAPE, "w: shape[1] is %zu; %s needs a multiple of %zu", k,
                   xf_type_name(w->type), block);
  bytes = bytes_of(w, (int64_t)xf_quant_row_bytes(w->type, k));
  return xf_view_check(&bytes, &rule, error);
}

static xf_status check_scales(const xf_view *w, const xf_view *scales, xf_error *error)
{
  if (w->type != XF_I8_ROW)
    return !scales ? XF_OK
                   : xf_fail(error, XF_E_ARGUMENT, "scales: w is %s, which has none",
                             xf_type_name(w->type));
  if (!scales) return xf_fail(error, XF_E_ARGUMENT, "scales: NULL; i8_row needs one for each row");
  struct xf_view_rule rule = {"scales", 1, F32, {w->shape[0], 0, 0, 0}, true, false};
  return xf_view_check(scales, &rule, error);
}

/* The matrix that a host's views describe. */
static xf_status read_matrix(const xf_view *w, const xf_view *scales, struct xf_matrix *out,
                             xf_error *error)
{
  struct xf_view_rule rule = {"w", 2, FLOATS, {-1, -1, 0, 0}, true, false};
  xf_status status = xf_is_quant(w->type) ? check_blocks(w, error) : xf_view_check(w, &rule, error);
  if (!status) status = check_scales(w, scales, error);
  if (status) return status;
  if (w->shape[0] == 0 || w->shape[1] == 0)
    return xf_fail(error, XF_E_SHAPE, "w: [%lld, %lld] is empty", (long long)w->shape[0],
                   (long long)w->shape[1]);
  *out = (struct xf_matrix){
      .data = w->data, .type = w->type, .n = (size_t)w->shape[0], .k = (size_t)w->shape[1]};
  if (out->n > 1) out->gap = w->stride[0] - (int64_t)xf_matrix_row_bytes(out);
  if (scales) out->scales = scales->data;
  return XF_OK;
}

xf_status xf_linear_create(const xf_context *context, const xf_view *w, const xf_view *scales,
                           xf_linear **out, xf_error *error)
{
  if (!context || !w || !out)
    return xf_fail(error, XF_E_ARGUMENT, "xf_linear_create: context, w or out is NULL");
  *out = NULL;
  struct xf_matrix matrix;
  xf_status status = read_matrix(w, scales, &matrix, error);
  if (status) return status;
  xf_linear *linear = xf_alloc_zeroed(1, sizeof *linear);
  if (!linear) return xf_fail(error, XF_E_MEMORY, "out of memory for a linear layer");
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

/* ---- floats of weights ---- */

struct widening {
  const struct xf_kernels *kernels;
  struct xf_matrix matrix;
  const xf_view *y;
};

static void widen_row(void *arg, size_t slot, size_t r)
{
  (void)slot;
  const struct widening *w = arg;
  char *to = (char *)(uintptr_t)w->y->data + (int64_t)r * w->y->stride[0];
  xf_matrix_widen(w->kernels, &w->matrix, r, (float *)(void *)to);
}

xf_status xf_dequantize(const xf_context *context, const xf_view *w, const xf_view *scales,
                        const xf_view *y, xf_error *error)
{
  if (!context || !w || !y)
    return xf_fail(error, XF_E_ARGUMENT, "xf_dequantize: context, w or y is NULL");
  struct widening widening = {.kernels = context->kernels, .y = y};
  xf_status status = read_matrix(w, scales, &widening.matrix, error);
  if (status) return status;
  struct xf_view_rule rule = {"y", 2, F32, {w->shape[0], w->shape[1], 0, 0}, true, true};
  status = xf_view_check(y, &rule, error);
  if (status) return status;
  xf_view bytes = bytes_of(w, (int64_t)xf_matrix_row_bytes(&widening.matrix));
  if (xf_views_overlap(y, &bytes) || (scales && xf_views_overlap(y, scales)))
    return xf_fail(error, XF_E_ARGUMENT, "y: overlaps w or scales");
  xf_parallel(context, widening.matrix.n, widen_row, &widening);
  return XF_OK;
}

/* ---- weights of floats ---- */

struct narrowing {
  const xf_view *x;
  struct xf_matrix matrix;
  float *scales;            /* NULL: the type has none */
  _Atomic size_t worst_row; /* the first row that cannot be of the type; n: none */
};

static void narrow_row(void *arg, size_t slot, size_t r)
{
  (void)slot;
  struct narrowing *n = arg;
  float unused;
  const char *from = (const char *)n->x->data + (int64_t)r * n->x->stride[0];
  unsigned char *to = (unsigned char *)(uintptr_t)xf_matrix_row(&n->matrix, r, &unused);
  float *scale = n->scales ? &n->scales[r] : &unused;
  if (xf_quantize_row(n->matrix.type, n->matrix.k, (const float *)(const void *)from, to, scale))
    return;
  size_t worst = atomic_load(&n->worst_row);
  while (r < worst && !atomic_compare_exchange_weak(&n->worst_row, &worst, r)) continue;
}

/* w and scales, which read_matrix found right, as what is written. */
static xf_status check_written(const xf_view *x, const xf_view *w, const xf_view *scales,
                               const struct xf_matrix *matrix, xf_error *error)
{
  xf_view bytes = bytes_of(w, (int64_t)xf_matrix_row_bytes(matrix));
  struct xf_view_rule rule = {"w", 2, 1u << XF_I8, {-1, -1, 0, 0}, true, true};
  xf_status status = xf_view_check(&bytes, &rule, error);
  if (status) return status;
  rule = (struct xf_view_rule){"x", 2, F32, {w->shape[0], w->shape[1], 0, 0}, true, false};
  status = xf_view_check(x, &rule, error);
  if (status) return status;
  if (xf_views_overlap(x, &bytes)) return xf_fail(error, XF_E_ARGUMENT, "w: overlaps x");
  if (scales && (xf_views_overlap(scales, x) || xf_views_overlap(scales, &bytes)))
    return xf_fail(error, XF_E_ARGUMENT, "scales: overlaps x or w");
  return XF_OK;
}

xf_status xf_quantize(const xf_context *context, const xf_view *x, const xf_view *w,
                      const xf_view *scales, xf_error *error)
{
  if (!context || !x || !w)
    return xf_fail(error, XF_E_ARGUMENT, "xf_quantize: context, x or w is NULL");
  struct narrowing narrowing = {.x = x};
  xf_status status = read_matrix(w, scales, &narrowing.matrix, error);
  if (!status) status = check_written(x, w, scales, &narrowing.matrix, error);
  if (status) return status;
  if (scales) narrowing.scales = (float *)(uintptr_t)scales->data;
  narrowing.matrix.scales = NULL; /* nothing is there yet */
  size_t n = narrowing.matrix.n;
  atomic_init(&narrowing.worst_row, n);
  xf_parallel(context, n, narrow_row, &narrowing);
  size_t worst = atomic_load(&narrowing.worst_row);
  if (worst == n) return XF_OK;
  return xf_fail(error, XF_E_ARGUMENT,
                 "x: row %zu has a weight that is not finite or too large for %s; bf16 has the "
                 "range of f32",
                 worst, xf_type_name(w->type));
}

/* ---- applying ---- */

size_t xf_linear_workspace(const xf_context *context, const xf_linear *linear, size_t rows)
{
  if (!context || !linear) return 0;
  return xf_linear_scratch_bytes(
      context, (struct xf_linear_rows){xf_linear_has_quants(linear) ? rows : 0,
                                       xf_linear_rounded(context, linear, rows), linear->k});
}

static xf_status check_workspace(const xf_view *x, const xf_view *y, const void *workspace,
                                 size_t bytes, size_t needed, xf_error *error)
{
  if (!workspace || bytes < needed || (uintptr_t)workspace % sizeof(float))
    return xf_fail(error, XF_E_ARGUMENT, "workspace: %p, %zu bytes; %zu are needed, aligned to 4",
                   workspace, bytes, needed);
  if (xf_view_overlaps(y, workspace, needed) || xf_view_overlaps(x, workspace, needed))
    return xf_fail(error, XF_E_ARGUMENT, "workspace: overlaps x or y");
  return XF_OK;
}

xf_status xf_linear_run(const xf_context *context, const xf_linear *linear,
                        xf_activations activations, const xf_view *x, const xf_view *y,
                        void *workspace, size_t bytes, xf_error *error)
{
  if (!context || !linear || !x || !y)
    return xf_fail(error, XF_E_ARGUMENT, "xf_linear_run: context, linear, x or y is NULL");
  if (activations != XF_ACTIVATIONS_INT8 && activations != XF_ACTIVATIONS_F32)
    return xf_fail(error, XF_E_ARGUMENT, "activations: %d are neither int8 nor f32",
                   (int)activations);
  struct xf_view_rule rule = {"x", 2, F32, {-1, (int64_t)linear->k, 0, 0}, true, false};
  xf_status status = xf_view_check(x, &rule, error);
  if (status) return status;
  rule = (struct xf_view_rule){"y", 2, F32, {x->shape[0], (int64_t)linear->n, 0, 0}, true, true};
  status = xf_view_check(y, &rule, error);
  if (status) return status;
  size_t rows = (size_t)x->shape[0];
  if (rows > 1 && (x->stride[0] < 0 || y->stride[0] < 0))
    return xf_fail(error, XF_E_UNSUPPORTED, "%s: stride[0] is negative",
                   x->stride[0] < 0 ? "x" : "y");
  if (xf_rows_overlap(x, y)) return xf_fail(error, XF_E_ARGUMENT, "y: overlaps x");
  size_t needed = xf_linear_workspace(context, linear, rows);
  status = check_workspace(x, y, workspace, bytes, needed, error);
  if (status || rows == 0) return status;
  bool integers = activations == XF_ACTIVATIONS_INT8 && xf_linear_has_quants(linear);
  struct xf_linear_scratch scratch = xf_linear_scratch_in(
      workspace, context,
      (struct xf_linear_rows){integers ? rows : 0, xf_linear_rounded(context, linear, rows),
                              linear->k});
  xf_linear_apply(context, linear, rows, x->data, (size_t)x->stride[0] / sizeof(float),
                  (float *)(uintptr_t)y->data, (size_t)y->stride[0] / sizeof(float), &scratch);
  return XF_OK;
}
