/* Writes a graph as a .tflite file with one subgraph and one signature, for tests. */
#ifndef XF_TESTS_TFLITE_FILE_H
#define XF_TESTS_TFLITE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TFLITE_TENSORS_MOST = 400, TFLITE_OPS_MOST = 200 };

struct tflite_tensor {
  int type;
  size_t rank;
  int32_t shape[4];
  void *data; /* of a constant; free() it */
  size_t bytes;
  float *scales; /* [shape[0]] of int8; free() it */
};

struct tflite_op {
  int code, inputs[4], n_inputs, output;
  const char *composite, *attribute; /* NULL: none */
  float value;
};

struct tflite_file {
  struct tflite_tensor tensors[TFLITE_TENSORS_MOST];
  struct tflite_op ops[TFLITE_OPS_MOST];
  int n_tensors, n_ops;
  const char *signature;
  int tokens, input_pos, logits; /* the signature's tensors */
  bool outside;                  /* constants lie behind the FlatBuffer */
  int zero_point;                /* of int8 */
};

/* {attribute: value} as FlexBuffers has it, of 32-bit floats; returns its bytes. */
size_t tflite_attributes(const char *attribute, float value, unsigned char out[static 64]);

void tflite_file_write(const struct tflite_file *file, const char *path);

#endif
