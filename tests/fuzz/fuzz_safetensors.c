/* A safetensors file of any bytes. */
#include "model/safetensors.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  const char *path = fuzz_file("model.safetensors", data, size);
  struct xf_safetensors file;
  xf_error error = {0};
  xf_status status = xf_safetensors_open(fuzz_folder(), "model.safetensors", &file, &error);
  if (fuzz_failed(status, &error, path)) return 0;
  for (size_t i = 0; i < file.n; i++) fuzz_touch(file.tensors[i].data, file.tensors[i].bytes);
  xf_safetensors_close(&file);
  return 0;
}
