#include "litert/composite.h"

#include <string.h>

#include "dispatch/error.h"
#include "dispatch/memory.h"
#include "exactflash/ops.h"
#include "litert/attention.h"
#include "model/flexbuffers.h"

const char *xf_composite_name(enum xf_composite_kind kind)
{
  static const char *const names[] = {"odml.scaled_dot_product_attention", "odml.rms_norm"};
  return names[kind];
}

static const TfLiteStablehloCompositeParams *params_of(const TfLiteNode *node)
{
  return node->builtin_data;
}

static bool find_kind(const char *name, enum xf_composite_kind *kind)
{
  for (*kind = 0; *kind < XF_COMPOSITE_KINDS; ++*kind)
    if (strcmp(name, xf_composite_name(*kind)) == 0) return true;
  return false;
}

bool xf_composite_is(const TfLiteNode *node, const TfLiteRegistration *registration)
{
  enum xf_composite_kind kind;
  if (registration->builtin_code != kTfLiteBuiltinStablehloComposite || !node->builtin_data)
    return false;
  return params_of(node)->name && find_kind(params_of(node)->name, &kind);
}

/* Takes the indices of that many f32 inputs and of the one output. */
static xf_status take_tensors(const TfLiteContext *context, const TfLiteNode *node, int n,
                              int *const inputs[], int *out, xf_error *error)
{
  if (node->inputs->size != n || node->outputs->size != 1)
    return xf_fail(error, XF_E_UNSUPPORTED, "%d inputs and %d outputs; %d and 1 are supported",
                   node->inputs->size, node->outputs->size, n);
  for (int i = 0; i <= n; i++) {
    int index = i < n ? node->inputs->data[i] : node->outputs->data[0];
    if (index < 0 || context->tensors[index].type != kTfLiteFloat32)
      return xf_fail(error, XF_E_UNSUPPORTED, "%s %d is not of f32", i < n ? "input" : "output",
                     i < n ? i : 0);
    if (context->tensors[index].allocation_type == kTfLiteDynamic)
      return xf_fail(error, XF_E_UNSUPPORTED, "a tensor's sizes are known only when it runs");
    *(i < n ? inputs[i] : out) = index;
  }
  return XF_OK;
}

static xf_status read_attention(const TfLiteContext *context, const TfLiteNode *node,
                                struct xf_composite *out, xf_error *error)
{
  const TfLiteStablehloCompositeParams *params = params_of(node);
  struct xf_flex_number numbers[] = {{.name = "scale"}, {.name = "logit_cap"}};
  xf_status status = xf_flex_read_numbers(params->name, params->attributes, params->attributes_size,
                                          numbers, 2, error);
  if (status) return status;
  if (!numbers[0].found || !(numbers[0].value != 0))
    return xf_fail(error, XF_E_UNSUPPORTED, "%s: there is no attribute scale", params->name);
  out->attention.mask = kTfLiteOptionalTensor;
  out->attention.scale = (float)numbers[0].value;
  out->attention.logit_cap = (float)numbers[1].value;
  int *const inputs[] = {&out->attention.q, &out->attention.k, &out->attention.v,
                         &out->attention.mask};
  return take_tensors(context, node, node->inputs->size == 3 ? 3 : 4, inputs, &out->out, error);
}

static xf_status read_rms_norm(const TfLiteContext *context, const TfLiteNode *node,
                               struct xf_composite *out, xf_error *error)
{
  const TfLiteStablehloCompositeParams *params = params_of(node);
  struct xf_flex_number epsilon = {.name = "epsilon"};
  xf_status status = xf_flex_read_numbers(params->name, params->attributes, params->attributes_size,
                                          &epsilon, 1, error);
  if (status) return status;
  if (!epsilon.found)
    return xf_fail(error, XF_E_UNSUPPORTED, "%s: there is no attribute epsilon", params->name);
  out->rms_norm.epsilon = (float)epsilon.value;
  int *const inputs[] = {&out->rms_norm.x, &out->rms_norm.w};
  return take_tensors(context, node, 2, inputs, &out->out, error);
}

xf_status xf_composite_read(const TfLiteContext *context, const TfLiteNode *node,
                            struct xf_composite *out, xf_error *error)
{
  *out = (struct xf_composite){0};
  if (!find_kind(params_of(node)->name, &out->kind))
    return xf_fail(error, XF_E_UNSUPPORTED, "the composite is another one");
  return out->kind == XF_COMPOSITE_ATTENTION ? read_attention(context, node, out, error)
                                             : read_rms_norm(context, node, out, error);
}

static int64_t last_size(const TfLiteTensor *tensor)
{
  return tensor->dims->size > 0 ? tensor->dims->data[tensor->dims->size - 1] : 0;
}

static xf_status check_rms_norm(const TfLiteContext *context, const struct xf_composite *composite,
                                xf_error *error)
{
  const TfLiteTensor *x = &context->tensors[composite->rms_norm.x];
  const TfLiteTensor *w = &context->tensors[composite->rms_norm.w];
  if (w->dims->size == 1 && last_size(x) >= 1 && last_size(w) == last_size(x)) return XF_OK;
  return xf_fail(error, XF_E_SHAPE, "%s: not x [..., n] and weights [n]",
                 xf_composite_name(XF_COMPOSITE_RMS_NORM));
}

xf_status xf_composite_workspace(const struct xf_litert_engine *engine,
                                 const TfLiteContext *context, const struct xf_composite *composite,
                                 size_t *bytes, xf_error *error)
{
  *bytes = 0;
  return composite->kind == XF_COMPOSITE_RMS_NORM
             ? check_rms_norm(context, composite, error)
             : xf_litert_attention_workspace(engine, context, composite, bytes, error);
}

bool xf_composite_shape_output(TfLiteContext *context, const struct xf_composite *composite)
{
  bool norm = composite->kind == XF_COMPOSITE_RMS_NORM;
  int from = norm ? composite->rms_norm.x : composite->attention.q;
  const TfLiteIntArray *wanted = context->tensors[from].dims;
  TfLiteTensor *out = &context->tensors[composite->out];
  size_t bytes = sizeof *wanted + (size_t)wanted->size * sizeof *wanted->data;
  if (out->dims->size == wanted->size && memcmp(out->dims, wanted, bytes) == 0) return true;
  TfLiteIntArray *copy = xf_alloc(bytes, 1); /* LiteRT's to free, as memory of malloc */
  if (!copy) return false;
  memcpy(copy, wanted, bytes);
  return context->ResizeTensor(context, out, copy) == kTfLiteOk;
}

static xf_status run_rms_norm(const struct xf_litert_engine *engine, const TfLiteContext *context,
                              const struct xf_composite *composite, xf_error *error)
{
  const TfLiteTensor *x = &context->tensors[composite->rms_norm.x];
  int64_t n = last_size(x), row = n * (int64_t)sizeof(float);
  xf_view rows = {x->data, XF_F32, 2, {(int64_t)x->bytes / row, n}, {row, sizeof(float)}}, y = rows;
  y.data = context->tensors[composite->out].data;
  return xf_rms_norm(xf_litert_engine_for(engine, 8.0 * (double)(x->bytes / sizeof(float))), &rows,
                     context->tensors[composite->rms_norm.w].data, composite->rms_norm.epsilon, &y,
                     error);
}

xf_status xf_composite_run(const struct xf_litert_engine *engine, const TfLiteContext *context,
                           const struct xf_composite *composite, void *workspace, size_t bytes,
                           xf_error *error)
{
  if (composite->kind == XF_COMPOSITE_RMS_NORM)
    return run_rms_norm(engine, context, composite, error);
  return xf_litert_attention_run(engine, context, composite, workspace, bytes, error);
}
