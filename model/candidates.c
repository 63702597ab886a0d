#include "model/candidates.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

struct xf_candidates xf_candidates_all(const float *p, size_t vocab, float total, uint32_t *ids)
{
  for (size_t i = 0; ids && i < vocab; i++) ids[i] = (uint32_t)i;
  return (struct xf_candidates){.p = p, .ids = ids, .n = vocab, .vocab = vocab, .total = total};
}

/* Whether token a comes in front of token b. */
static bool before(const struct xf_candidates *c, uint32_t a, uint32_t b)
{
  if (c->ranking && c->ranking[a] != c->ranking[b]) return c->ranking[a] < c->ranking[b];
  return c->p[a] > c->p[b] || (c->p[a] == c->p[b] && a < b);
}

static void sift_down(const struct xf_candidates *c, size_t n, size_t hole)
{
  uint32_t *heap = c->ids, id = heap[hole];
  for (size_t child; (child = 2 * hole + 1) < n; hole = child) {
    if (child + 1 < n && before(c, heap[child + 1], heap[child])) child++;
    if (!before(c, heap[child], id)) break;
    heap[hole] = heap[child];
  }
  heap[hole] = id;
}

static void reverse(uint32_t *ids, size_t n)
{
  for (size_t i = 0; i < n / 2; i++) {
    uint32_t id = ids[i];
    ids[i] = ids[n - 1 - i];
    ids[n - 1 - i] = id;
  }
}

/* Cuts the list, in its order, behind its `most`-th token, or behind the first whose running sum is
 * ≥ least. Sorts only as far as that: a heap whose tops are put behind it. */
static void keep_first(struct xf_candidates *c, size_t most, float least)
{
  size_t n = c->n;
  for (size_t i = n / 2; i-- > 0;) sift_down(c, n, i);
  float sum = 0;
  do {
    uint32_t top = c->ids[0];
    c->ids[0] = c->ids[--n];
    if (n) sift_down(c, n, 0);
    c->ids[n] = top;
    sum += c->p[top];
  } while (n && c->n - n < most && sum < least);
  reverse(c->ids + n, c->n - n);
  c->n -= n;
  memmove(c->ids, c->ids + n, c->n * sizeof *c->ids);
}

static float running_sum(const struct xf_candidates *c)
{
  float sum = 0;
  for (size_t i = 0; i < c->n; i++) sum += c->p[c->ids[i]];
  return sum;
}

/* Keeps tokens with p ≥ least, in their order. */
static void keep_from(struct xf_candidates *c, float least)
{
  size_t kept = 0;
  for (size_t i = 0; i < c->n; i++)
    if (c->p[c->ids[i]] >= least) c->ids[kept++] = c->ids[i];
  c->n = kept;
}

void xf_keep_top_k(struct xf_candidates *c, size_t k)
{
  keep_first(c, k, INFINITY);
}

void xf_keep_typical(struct xf_candidates *c, float typical, float *e)
{
  double weighted = 0, weights = 0;
  keep_from(c, 0x1p-149f);
  for (size_t i = 0; i < c->n; i++) {
    double p = (double)c->p[c->ids[i]];
    weighted += p * (double)e[c->ids[i]];
    weights += p;
  }
  float expected = (float)(weighted / weights);
  for (size_t i = 0; i < c->n; i++) e[c->ids[i]] = fabsf(e[c->ids[i]] - expected);
  c->ranking = e;
  keep_first(c, c->n, typical * running_sum(c));
  c->ranking = NULL;
}

void xf_keep_top_p(struct xf_candidates *c, float top_p)
{
  keep_first(c, c->n, top_p * (c->n == c->vocab ? c->total : running_sum(c)));
}

void xf_keep_min_p(struct xf_candidates *c, float min_p)
{
  float greatest = 0;
  for (size_t i = 0; i < c->n; i++) greatest = fmaxf(greatest, c->p[c->ids[i]]);
  keep_from(c, min_p * greatest);
}
