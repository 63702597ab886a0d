/* Plans (xf_plan) and the keys by which a GGUF file has them. */
#ifndef XF_MODEL_PLAN_H
#define XF_MODEL_PLAN_H

#include <stdbool.h>

#include "exactflash/model.h"
#include "model/gguf.h"
#include "model/gguf_write.h"

/* What is wrong with a plan, in words, for a model of so many positions; false: nothing. */
bool xf_plan_fault(const xf_plan *plan, size_t max_positions, char *text, size_t size);

/* Zeros where the file has none. */
xf_status xf_plan_read(const struct xf_gguf *gguf, size_t max_positions, xf_plan *out,
                       xf_error *error);
void xf_plan_write(const xf_plan *plan, struct xf_gguf_writer *writer);
/* Whether a key is one of a plan's. */
bool xf_plan_is_key(struct xf_gguf_string key);

/* Tokens of the next chunk, `left` ≥ 1 being left. */
size_t xf_plan_next(const xf_plan *plan, size_t left);

#endif
