/* What changes logits before a token is chosen from them: logit bias, and penalties for the tokens
 * that the text has already. Every operation is one rounding in f32.
 *
 * x = the model's logits; in this order:
 *   for each bias, as given: x[token] = x[token] + bias
 *   for each id in the window, with n the times it is there:
 *     repetition r: x[id] = x[id] > 0 ? x[id] / r : x[id] · r
 *     x[id] = (x[id] − n · frequency) − presence
 * The window is the last repeat_last_n tokens of the text, prompts and answers alike.
 *
 * Source: Keskar et al. 2019, "CTRL" (repetition, made symmetric around 0 as transformers and
 * llama.cpp have it); frequency and presence as llama.cpp has them. */
#ifndef XF_MODEL_ADJUST_H
#define XF_MODEL_ADJUST_H

#include <stdbool.h>

#include "exactflash/generate.h"

struct xf_adjust {
  size_t vocab;
  float repetition, frequency, presence;
  xf_logit_bias *bias; /* [n_bias] */
  size_t n_bias;
  /* NULL without penalties. */
  int32_t *window;  /* [window_size], a ring */
  uint32_t *counts; /* [vocab], of the ids in the window */
  size_t window_size, in_window, next;
};

xf_status xf_adjust_init(struct xf_adjust *adjust, size_t vocab, const xf_generate_options *options,
                         xf_error *error);
void xf_adjust_free(struct xf_adjust *adjust); /* leaves it empty; an empty one is allowed */

/* Whether it changes anything. */
bool xf_adjust_active(const struct xf_adjust *adjust);
/* The text goes on with these ids, each in [0, vocab). */
void xf_adjust_accept(struct xf_adjust *adjust, const int32_t *ids, size_t n);
void xf_adjust_apply(const struct xf_adjust *adjust, float *x); /* [vocab] */

#endif
