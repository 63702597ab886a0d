#include "exactflash/status.h"

#include <stdbool.h>

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

static const struct {
  const char *name;
  size_t size;
} types[] = {
    [XF_F32] = {"f32", 4},   [XF_F16] = {"f16", 2},   [XF_BF16] = {"bf16", 2},
    [XF_I8] = {"i8", 1},     [XF_BOOL] = {"bool", 1}, [XF_I8_ROW] = {"i8_row", 0},
    [XF_Q8_0] = {"q8_0", 0}, [XF_Q4_0] = {"q4_0", 0}, [XF_Q4_1] = {"q4_1", 0},
    [XF_Q5_0] = {"q5_0", 0}, [XF_Q5_1] = {"q5_1", 0}, [XF_Q4_K] = {"q4_k", 0},
    [XF_Q5_K] = {"q5_k", 0}, [XF_Q6_K] = {"q6_k", 0},
};

static bool is_type(xf_type type)
{
  return (size_t)type < sizeof types / sizeof *types && types[type].name;
}

const char *xf_type_name(xf_type type)
{
  return is_type(type) ? types[type].name : "unknown type";
}

size_t xf_type_size(xf_type type)
{
  return is_type(type) ? types[type].size : 0;
}
