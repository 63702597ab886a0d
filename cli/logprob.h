/* Natural logarithms of probabilities, with the same bits on every machine: only additions,
 * multiplications and divisions of doubles, in a fixed order, and none of libm's rounded functions.
 */
#ifndef XF_CLI_LOGPROB_H
#define XF_CLI_LOGPROB_H

#include <stddef.h>

/* log(softmax(logits)[target]) of n ≥ 1 logits; NaN where one is NaN or +∞. Exact to about 1e-15
 * of the largest logit. */
double xf_cli_logprob(const float *logits, size_t n, size_t target);

/* exp(x) for −700 ≤ x ≤ 700; below exp(−700), above exp(700). */
double xf_cli_exp(double x);

#endif
