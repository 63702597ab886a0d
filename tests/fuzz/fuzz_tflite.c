/* A .tflite file of any bytes: its graph, and the Llama in it. */
#include "model/tflite_tensors.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  const char *path = fuzz_file("model.tflite", data, size);
  struct xf_tflite tflite;
  struct xf_tflite_tensors list;
  struct xf_config config;
  xf_error error = {0};
  if (fuzz_failed(xf_tflite_open(path, &tflite, &error), &error, path)) return 0;
  xf_status status = xf_tflite_tensors_read(&tflite, &config, &list, &error);
  if (!fuzz_failed(status, &error, path)) {
    for (size_t i = 0; i < list.n; i++) fuzz_touch(list.tensors[i].data, list.tensors[i].bytes);
    xf_tflite_tensors_free(&list);
  }
  xf_tflite_close(&tflite);
  return 0;
}
