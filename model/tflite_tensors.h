/* A .tflite file's Llama as a checkpoint has it: a config and named tensors. */
#ifndef XF_MODEL_TFLITE_TENSORS_H
#define XF_MODEL_TFLITE_TENSORS_H

#include "model/config.h"
#include "model/tensor.h"
#include "model/tflite.h"

struct xf_tflite_tensors {
  struct xf_tensor *tensors; /* [n], by name; names are those of xf_naming_tflite */
  size_t n;
  char *names;
};

/* config (NULL: not wanted) has the file's own frequencies where no rope_theta gives them to the
 * last bit; EOS ids are the tokenizer's, which may lie beside the file. On failure *out is empty.
 */
xf_status xf_tflite_tensors_read(struct xf_tflite *tflite, struct xf_config *config,
                                 struct xf_tflite_tensors *out, xf_error *error);
void xf_tflite_tensors_free(struct xf_tflite_tensors *tensors);

#endif
