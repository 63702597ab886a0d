/* The tensors of a checkpoint: a folder's model.safetensors, or its shards with
 * model.safetensors.index.json, or a GGUF file, or a .tflite file. */
#ifndef XF_MODEL_CHECKPOINT_H
#define XF_MODEL_CHECKPOINT_H

#include "exactflash/status.h"
#include "model/config.h"
#include "model/naming.h"
#include "model/tensor.h"

struct xf_checkpoint;
struct xf_gguf;

/* config, from config.json, the GGUF file's metadata or the .tflite file's graph, is read first;
 * NULL: not at all. */
xf_status xf_checkpoint_open(const char *path, struct xf_config *config, struct xf_checkpoint **out,
                             xf_error *error);
void xf_checkpoint_close(struct xf_checkpoint *checkpoint); /* NULL is allowed */

/* The folder or GGUF file, for messages. */
const char *xf_checkpoint_place(const struct xf_checkpoint *checkpoint);

/* The GGUF file's metadata; NULL where the checkpoint is another. Its path is not to be read. */
const struct xf_gguf *xf_checkpoint_gguf(const struct xf_checkpoint *checkpoint);

/* How the tensors of a Llama are named here. */
const struct xf_naming *xf_checkpoint_naming(const struct xf_checkpoint *checkpoint);
/* NULL where there is none of that name. */
const struct xf_tensor *xf_checkpoint_find(const struct xf_checkpoint *checkpoint,
                                           const char *name);
/* The tensor, which must exist and have that shape: rank 1 ([n]) and floats where k is 0, else [n,
 * k] of any type of weights. */
xf_status xf_checkpoint_get(const struct xf_checkpoint *checkpoint, const char *name, size_t n,
                            size_t k, const struct xf_tensor **out, xf_error *error);
/* Lets the kernel drop the tensor's pages from this process: it will not be read again soon. */
void xf_checkpoint_release(const struct xf_tensor *tensor);
/* Closes every file but the tensor's. No other tensor may be used from now on, nor be found. */
void xf_checkpoint_keep_only(struct xf_checkpoint *checkpoint, const struct xf_tensor *tensor);

#endif
