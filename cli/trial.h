/* Trial runs of a model, of which selftest and verify compare two. */
#ifndef XF_CLI_TRIAL_H
#define XF_CLI_TRIAL_H

#include <stdbool.h>

#include "cli/session.h"
#include "cli/text.h"

/* Bounds for the largest difference between the logits of flash and of standard attention
 * (xf_cli_check_largest). */
#define XF_CLI_PREFILL_BOUND 3e-5
#define XF_CLI_DECODE_BOUND  1e-4

/* The prompt's ids, never none: a model without a tokenizer continues its token 1. Returns an exit
 * code, failures reported; free in any case. */
int xf_cli_trial_encode(const struct xf_cli_session *session, const char *prompt,
                        struct xf_cli_ids *ids);

/* Runs n ids behind the cache's positions. out: their logits [n, vocabulary], or NULL. Logits that
 * are not finite are a failure. */
bool xf_cli_trial_forward(const struct xf_cli_session *session, const int32_t *ids, size_t n,
                          float *out, xf_error *error);

/* Continues the ids greedily by n tokens, whatever EOS says, in a cache of its own. */
bool xf_cli_trial_generate(const struct xf_cli_session *session, const struct xf_cli_ids *ids,
                           size_t n, int32_t *tokens, xf_error *error);

#endif
