#include "model/source.h"

#include "dispatch/error.h"

static xf_status expect_none(const struct xf_checkpoint *checkpoint, const char *name,
                             const char *reason, xf_error *error)
{
  const struct xf_tensor *tensor = xf_checkpoint_find(checkpoint, name);
  if (!tensor) return XF_OK;
  return xf_fail(error, XF_E_UNSUPPORTED, "%s: holds a tensor %s, but %s", tensor->path, name,
                 reason);
}

/* Bytes become I8_ROW by the scales of their rows, a tensor of their own. */
static xf_status get_scales(const struct xf_checkpoint *checkpoint, const char *name,
                            struct xf_matrix *matrix, xf_error *error)
{
  if (matrix->type != XF_I8)
    return expect_none(checkpoint, name, "the weights that it belongs to are not of I8", error);
  const struct xf_tensor *scales;
  xf_status status = xf_checkpoint_get(checkpoint, name, matrix->n, 0, &scales, error);
  if (status != XF_OK) return status;
  if (scales->type != XF_F32)
    return xf_fail(error, XF_E_UNSUPPORTED, "%s: tensor %s: only F32 is supported, not %s",
                   scales->path, name, scales->dtype);
  matrix->type = XF_I8_ROW;
  matrix->scales = scales->data;
  return XF_OK;
}

xf_status xf_source_get(const struct xf_checkpoint *checkpoint, enum xf_role role, size_t layer,
                        size_t n, size_t k, struct xf_source *out, xf_error *error)
{
  char name[XF_MAX_NAME];
  const struct xf_naming *naming = xf_checkpoint_naming(checkpoint);
  xf_tensor_name(naming, role, layer, ".bias", name);
  xf_status status =
      expect_none(checkpoint, name, "linear layers with bias are not supported", error);
  if (status != XF_OK) return status;
  xf_tensor_name(naming, role, layer, ".weight", name);
  status = xf_checkpoint_get(checkpoint, name, n, k, &out->tensor, error);
  if (status != XF_OK) return status;
  out->matrix = (struct xf_matrix){.data = out->tensor->data,
                                   .type = out->tensor->type,
                                   .n = n,
                                   .k = k,
                                   .run = out->tensor->run,
                                   .skip = out->tensor->skip};
  xf_tensor_name(naming, role, layer, ".scale", name);
  return get_scales(checkpoint, name, &out->matrix, error);
}

xf_status xf_source_expect_layers(const struct xf_checkpoint *checkpoint, size_t layers,
                                  xf_error *error)
{
  char name[XF_MAX_NAME];
  const struct xf_naming *naming = xf_checkpoint_naming(checkpoint);
  xf_tensor_name(naming, XF_ATTENTION_NORM, layers, ".weight", name);
  const struct xf_tensor *tensor = xf_checkpoint_find(checkpoint, name);
  if (!tensor) return XF_OK;
  return xf_fail(error, XF_E_SHAPE, "%s: holds a tensor %s, but %s ends before it", tensor->path,
                 name, naming->layer_count);
}
