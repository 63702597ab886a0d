#include "cli/attention_problem.h"

#include <sys/mman.h>

enum {
  HEADS = XF_PROBLEM_HEADS,
  KV_HEADS = XF_PROBLEM_KV_HEADS,
  D = XF_PROBLEM_D,
  PAGE_LEN = XF_PROBLEM_PAGE_LEN
};

bool xf_problem_open(struct xf_problem *p, size_t n)
{
  size_t page = (size_t)KV_HEADS * PAGE_LEN * 2 * D, n_pages = (n + PAGE_LEN - 1) / PAGE_LEN;
  size_t rows = n * HEADS * D;
  *p = (struct xf_problem){.n = n, .floats = 2 * rows + n_pages * page, .kv_len = (int64_t)n};
  p->q = mmap(NULL, p->floats * sizeof(float), PROT_READ | PROT_WRITE,
              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p->q == MAP_FAILED) return false;
  p->out = p->q + rows;
  p->keys = p->out + rows;
  for (size_t i = 0; i < n_pages; i++) {
    p->table[i] = (uint32_t)i;
    p->pages[i] = p->keys + i * page;
  }
  return true;
}

void xf_problem_close(struct xf_problem *p)
{
  munmap(p->q, p->floats * sizeof(float));
}

void xf_problem_fill(struct xf_problem *p)
{
  uint32_t state = 1;
  for (size_t i = 0; i < p->floats; i++) {
    state = state * 1664525 + 1013904223;
    p->q[i] = (float)(state >> 8) / (1 << 23) - 1;
  }
}

xf_attention_desc xf_problem_flash(const struct xf_problem *p)
{
  int64_t n = (int64_t)p->n, size = sizeof(float);
  xf_attention_desc desc = {.struct_size = sizeof desc};
  desc.q = (xf_view){
      p->q, XF_F32, 4, {1, n, HEADS, D}, {n * HEADS * D * size, HEADS * D * size, D * size, size}};
  desc.out = desc.q;
  desc.out.data = p->out;
  desc.kv.layout = XF_KV_PACKED;
  desc.kv.k = (xf_view){p->keys,
                        XF_F32,
                        4,
                        {(n + PAGE_LEN - 1) / PAGE_LEN, PAGE_LEN, KV_HEADS, D},
                        {KV_HEADS * PAGE_LEN * 2 * D * size, 0, 0, 0}};
  desc.kv.v = desc.kv.k;
  desc.kv.page_table = p->table;
  desc.kv.kv_len = &p->kv_len;
  return desc;
}
