/* .tflite files: one subgraph's operators and tensors, with the constants in the mapped file.
 * https://github.com/google-ai-edge/LiteRT, "schema.fbs", version 3 */
#ifndef XF_MODEL_TFLITE_H
#define XF_MODEL_TFLITE_H

#include "model/file.h"
#include "model/flatbuffer.h"

/* As the file numbers them. */
enum xf_tflite_type { XF_TFLITE_F32 = 0, XF_TFLITE_F16 = 1, XF_TFLITE_I32 = 2, XF_TFLITE_I8 = 9 };
enum xf_tflite_code {
  XF_TFLITE_ADD = 0,
  XF_TFLITE_CONCATENATION = 2,
  XF_TFLITE_DEQUANTIZE = 6,
  XF_TFLITE_EMBEDDING_LOOKUP = 7,
  XF_TFLITE_FULLY_CONNECTED = 9,
  XF_TFLITE_LOGISTIC = 14,
  XF_TFLITE_MUL = 18,
  XF_TFLITE_RESHAPE = 22,
  XF_TFLITE_TRANSPOSE = 39,
  XF_TFLITE_SUB = 41,
  XF_TFLITE_CAST = 53,
  XF_TFLITE_SLICE = 65,
  XF_TFLITE_SIN = 66,
  XF_TFLITE_GREATER = 61,
  XF_TFLITE_PACK = 83,
  XF_TFLITE_GATHER_ND = 107,
  XF_TFLITE_COS = 108,
  XF_TFLITE_SELECT_V2 = 123,
  XF_TFLITE_DYNAMIC_UPDATE_SLICE = 151,
  XF_TFLITE_COMPOSITE = 206
};

struct xf_tflite_tensor {
  int type; /* xf_tflite_type, or another */
  size_t rank;
  size_t shape[4];           /* of a rank above 4 the first four sizes */
  const unsigned char *data; /* NULL: no constant */
  size_t bytes;
  int producer; /* the operator that makes it; −1: none */
  xf_fb_at quantization;
};

/* Tensors are indices, −1 for one that is left out. */
struct xf_tflite_op {
  int code; /* xf_tflite_code, or another */
  struct xf_fb_vector inputs, outputs;
  xf_fb_at options, options_2;
};

struct xf_tflite {
  char *path;
  struct xf_file file;
  struct xf_flatbuffer fb;
  struct xf_tflite_tensor *tensors;
  size_t n_tensors;
  struct xf_tflite_op *ops; /* in order of execution */
  size_t n_ops;
  xf_fb_at signature; /* "decode" */
};

/* Maps the file and reads the subgraph of the signature "decode". What is read lies inside the
 * file, tensors that operators name exist, an operator's inputs are made before it, and each tensor
 * is made once. On failure *out is empty. */
xf_status xf_tflite_open(const char *path, struct xf_tflite *out, xf_error *error);
void xf_tflite_close(struct xf_tflite *tflite); /* leaves it empty; an empty one is allowed */

/* Whether a model's path is to be opened as .tflite: by what the file begins with; where that is
 * neither .tflite's nor GGUF's beginning, or nothing is there, by its name. */
bool xf_tflite_is_path(const char *path);

/* The tensors of the signature; −1: there is no such name. */
int xf_tflite_signature_input(struct xf_tflite *tflite, const char *name);
int xf_tflite_signature_output(struct xf_tflite *tflite, const char *name);

/* One scale for each of the tensor's n rows, maybe unaligned; NULL: it is not quantized in that
 * way. */
const unsigned char *xf_tflite_scales(struct xf_tflite *tflite, int tensor, size_t n);

/* Tensor of an operator; −1: left out, or not there. */
int xf_tflite_input(const struct xf_tflite *tflite, const struct xf_tflite_op *op, size_t i);
int xf_tflite_output(const struct xf_tflite *tflite, const struct xf_tflite_op *op, size_t i);

#endif
