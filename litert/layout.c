#include "litert/layout.h"

#include <dlfcn.h>
#include <string.h>

#include "dispatch/error.h"

enum { TENSORS_MOST = 1 << 24, NODE_TENSORS_MOST = 1 << 16, BUILTIN_CODES_MOST = 4096 };

static xf_status refuse(xf_error *error, const char *what)
{
  return xf_fail(
      error, XF_E_UNSUPPORTED,
      "this LiteRT's structures are not those that the delegate was written for: %s; use "
      "a version that docs/litert.md names",
      what);
}

/* The object that a function's code is in; NULL: it is no address of one. */
static const void *object_of(const void *address)
{
  Dl_info info;
  return address && dladdr(address, &info) ? info.dli_fbase : NULL;
}

/* A context's functions are all the runtime's own, and its other fields are no code of it. */
xf_status xf_litert_check_context(const TfLiteContext *context, xf_error *error)
{
  enum { FUNCTIONS = 8 };
  static const size_t at[FUNCTIONS] = {
      offsetof(TfLiteContext, GetExecutionPlan),
      offsetof(TfLiteContext, ResizeTensor),
      offsetof(TfLiteContext, ReportError),
      offsetof(TfLiteContext, AddTensors),
      offsetof(TfLiteContext, GetNodeAndRegistration),
      offsetof(TfLiteContext, ReplaceNodeSubsetsWithDelegateKernels),
      offsetof(TfLiteContext, GetExternalContext),
      offsetof(TfLiteContext, SetExternalContext),
  };
  const void *runtime = NULL;
  for (size_t i = 0; i < FUNCTIONS; i++) {
    const void *function;
    memcpy(&function, (const char *)context + at[i], sizeof function);
    const void *object = object_of(function);
    if (!object || (runtime && object != runtime))
      return refuse(error, "a context without its functions");
    runtime = object;
  }
  if (context->tensors_size == 0 || context->tensors_size > TENSORS_MOST || !context->tensors)
    return refuse(error, "a context without tensors");
  if (object_of(context->tensors) == runtime || object_of(context->impl_) == runtime)
    return refuse(error, "code in place of a context's data");
  if (context->recommended_num_threads < -1 || context->recommended_num_threads > 1 << 16)
    return refuse(error, "a context's number of threads");
  return XF_OK;
}

static xf_status check_tensor(const TfLiteTensor *tensor, xf_error *error)
{
  const TfLiteIntArray *dims = tensor->dims;
  if (tensor->type < 0 || tensor->type >= kTfLiteTypes || tensor->allocation_type < 0 ||
      tensor->allocation_type >= kTfLiteAllocationTypes)
    return refuse(error, "a tensor's type");
  if (!dims || dims->size < 0 || dims->size > kTfLiteMaxDimensions)
    return refuse(error, "a tensor's sizes");
  if (tensor->type != kTfLiteFloat32 || tensor->allocation_type == kTfLiteDynamic) return XF_OK;
  size_t bytes = sizeof(float);
  for (int i = 0; i < dims->size; i++)
    if (dims->data[i] < 0 || __builtin_mul_overflow(bytes, (size_t)dims->data[i], &bytes))
      return refuse(error, "a tensor's sizes");
  return tensor->bytes == bytes ? XF_OK : refuse(error, "a tensor's bytes");
}

static xf_status check_tensors(const TfLiteContext *context, const TfLiteIntArray *list,
                               xf_error *error)
{
  if (!list || list->size < 0 || list->size > NODE_TENSORS_MOST)
    return refuse(error, "a node's tensors");
  for (int i = 0; i < list->size; i++) {
    int index = list->data[i];
    if (index == kTfLiteOptionalTensor) continue;
    if (index < 0 || (size_t)index >= context->tensors_size)
      return refuse(error, "a node's tensors");
    xf_status status = check_tensor(&context->tensors[index], error);
    if (status) return status;
  }
  return XF_OK;
}

xf_status xf_litert_check_node(const TfLiteContext *context, const TfLiteNode *node,
                               const TfLiteRegistration *registration, xf_error *error)
{
  if (!node || !registration) return refuse(error, "a node that is not there");
  if (registration->builtin_code < 0 || registration->builtin_code > BUILTIN_CODES_MOST ||
      registration->version < 0 || registration->version > BUILTIN_CODES_MOST)
    return refuse(error, "an operator's code or version");
  xf_status status = check_tensors(context, node->inputs, error);
  return status ? status : check_tensors(context, node->outputs, error);
}
