/* GGUF files that hold the linear layers' panels as memory has them, to be read in place: fast to
 * open, and shared by processes. For this library alone. Beside the metadata and vectors of any
 * GGUF file, and the embedding, there are
 *   exactflash.packed.version  u32
 *   exactflash.packed.tied     bool: whether the head's matrix is the embedding
 *   exactflash.packed.parts    u32 [4 · layers + 1][3][2]: xf_type and columns of each part of qkv,
 *                              o, gate_up and down of each layer, then of the head; zeros: none
 *   blk.N.qkv.panels, blk.N.o.panels, blk.N.gate_up.panels, blk.N.down.panels, head.panels:
 *                              I8 [bytes], at multiples of 64: what struct xf_linear has */
#ifndef XF_MODEL_PACKED_H
#define XF_MODEL_PACKED_H

#include "model/gguf_write.h"
#include "model/weights.h"

/* *parts: that array, checked; NULL where the checkpoint holds matrices. XF_E_UNSUPPORTED: of
 * another version. */
xf_status xf_packed_parts(const struct xf_checkpoint *checkpoint, const struct xf_config *config,
                          const struct xf_gguf_value **parts, xf_error *error);
/* The layer [n, k] whose first matrix has that role, in the file's memory. */
xf_status xf_packed_map(const struct xf_checkpoint *checkpoint, const struct xf_gguf_value *parts,
                        enum xf_role first, size_t layer, size_t n, size_t k, struct xf_linear *out,
                        xf_error *error);

/* Adds the keys and tensors of a model to a file without tensors; then, in the same order, their
 * data. */
xf_status xf_packed_add(const struct xf_weights *weights, const struct xf_config *config,
                        struct xf_gguf_writer *writer, xf_error *error);
xf_status xf_packed_write(const struct xf_weights *weights, struct xf_gguf_writer *writer,
                          xf_error *error);

#endif
