/* TinyLlama's attention over one sequence in packed pages, for measuring. */
#ifndef XF_CLI_ATTENTION_PROBLEM_H
#define XF_CLI_ATTENTION_PROBLEM_H

#include <stdbool.h>

#include "exactflash/exactflash.h"

enum {
  XF_PROBLEM_HEADS = 32,
  XF_PROBLEM_KV_HEADS = 4,
  XF_PROBLEM_D = 64,
  XF_PROBLEM_PAGE_LEN = 512,
  XF_PROBLEM_TOKENS = 32768 /* most */
};

/* Tensors of n tokens in address space that costs nothing until it is written to. */
struct xf_problem {
  size_t n, floats;
  float *q, *out; /* [n][heads][d] */
  float *keys;    /* packed pages */
  void *pages[XF_PROBLEM_TOKENS / XF_PROBLEM_PAGE_LEN];
  uint32_t table[XF_PROBLEM_TOKENS / XF_PROBLEM_PAGE_LEN];
  int64_t kv_len;
};

bool xf_problem_open(struct xf_problem *problem, size_t n);
void xf_problem_close(struct xf_problem *problem);
/* Random numbers in −1 … 1 in all tensors. */
void xf_problem_fill(struct xf_problem *problem);
/* Flash attention over it, where every query sees every key. */
xf_attention_desc xf_problem_flash(const struct xf_problem *problem);

#endif
