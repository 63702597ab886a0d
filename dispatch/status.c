#include "exactflash/status.h"
#include "exactflash/tensor.h"

const char *xf_status_string(xf_status status)
{
  switch (status) {
  case XF_OK: return "success";
  case XF_E_ARGUMENT: return "invalid argument";
  case XF_E_SHAPE: return "shapes do not fit";
  case XF_E_UNSUPPORTED: return "not supported";
  case XF_E_CPU: return "not supported by this CPU";
  case XF_E_FILE: return "file error";
  case XF_E_FORMAT: return "malformed file";
  case XF_E_MEMORY: return "out of memory";
  case XF_E_CACHE_FULL: return "KV cache is full";
  case XF_E_CANCELLED: return "cancelled";
  }
  return "unknown status";
}

uint32_t xf_version(void)
{
  return 0u << 16 | 1u << 8 | 0u;
}

uint32_t xf_numerics_version(void)
{
  return 1;
}

const char *xf_type_name(xf_type type)
{
  switch (type) {
  case XF_F32: return "f32";
  case XF_F16: return "f16";
  case XF_BF16: return "bf16";
  case XF_I8: return "i8";
  case XF_BOOL: return "bool";
  }
  return "unknown type";
}

size_t xf_type_size(xf_type type)
{
  switch (type) {
  case XF_F32: return 4;
  case XF_F16: return 2;
  case XF_BF16: return 2;
  case XF_I8: return 1;
  case XF_BOOL: return 1;
  }
  return 0;
}
