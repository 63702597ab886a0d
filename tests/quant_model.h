/* Random GGUF models of 8- and 4-bit weights for tests, the same bytes on every machine. */
#ifndef XF_TESTS_QUANT_MODEL_H
#define XF_TESTS_QUANT_MODEL_H

#include "model/naming.h"
#include "tests/tiny_model.h"

/* Writes a model of that shape (its type is not read): types[role] for each matrix; norms are
 * floats. I8_ROW is a tensor of I8 and one of scales. special: a few scales are infinities, NaN,
 * zeros, subnormals or the greatest numbers. */
void quant_model_write(const struct tiny_model *shape, const xf_type types[static XF_ROLES],
                       bool special, const char *path);

#endif
