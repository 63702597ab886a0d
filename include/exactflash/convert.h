/* Conversion of a checkpoint to one GGUF file, with its tokenizer, its chat template and a plan of
 * how it is meant to be run. */
#ifndef EXACTFLASH_CONVERT_H
#define EXACTFLASH_CONVERT_H

#include "exactflash/model.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What to make of it. */
typedef struct xf_convert_options {
  size_t struct_size; /* sizeof(xf_convert_options) */
  /* Of the weight matrices, embedding and head included. 0: as the checkpoint has them. A matrix
   * whose rows hold no whole blocks of the type, or are longer than XF_I8_ROW's 131,072, becomes
   * Q8_0 if that fits, else F16. Norms are f32. */
  xf_type type;
  /* Written into the file for xf_model_open to find; a plan of zeros: none. */
  xf_plan plan;
  int force;            /* not 0: replaces a file that is there */
  xf_progress progress; /* "convert", counted in tensors; may cancel */
  void *progress_arg;
  /* Not 0: the linear layers' weights as memory has them, which are read in place: such a file
   * opens at once, and processes share its memory. For this library alone. With a type, a plain
   * file of that type lies beside output meanwhile. */
  int packed;
} xf_convert_options;

/* Whether matrices can be converted to that type: 1 or 0. All types of weights can: all of tensor.h
 * but XF_I8 and XF_BOOL. */
XF_API int xf_convert_supports(xf_type type);

/* What a checkpoint says of itself, without its weights being read. */
typedef struct xf_checkpoint_info {
  xf_type weight_type; /* of the first layer's q_proj */
  uint32_t max_position_embeddings;
} xf_checkpoint_info;

/* path: a Hugging Face folder or a GGUF file. */
XF_API xf_status xf_checkpoint_describe(const char *path, xf_checkpoint_info *out, xf_error *error);

/* path: a Hugging Face folder or a GGUF file, as xf_model_open takes them; a folder without a
 * tokenizer makes a file without one. output gets its name when it is whole and on the disk: after
 * a failure nothing is there but what was there before. Files of XF_I8_ROW, and packed ones,
 * are for this library alone, others for every reader of GGUF. options may be NULL. The same bytes
 * on every ISA, for any number of threads. XF_E_ARGUMENT: a plan that the model cannot run
 * (xf_plan). XF_E_FILE: output is there already, or cannot be written. XF_E_FORMAT: a weight is not
 * finite or too large for the type. */
XF_API xf_status xf_convert(const xf_context *context, const char *path, const char *output,
                            const xf_convert_options *options, xf_error *error);

#ifdef __cplusplus
}
#endif
#endif
