/* Memory that will be wanted soon, asked for piece by piece while a tile multiplies. So many
 * requests at once would hold the tile up; without them a CPU, which looks some hundred
 * instructions ahead, waits for memory where it could multiply. */
#ifndef XF_OP_ASKING_H
#define XF_OP_ASKING_H

#include "kernels/simd/common.h"

/* What a tile of a linear layer asks for: nothing; what comes next; and also, for the first cache,
 * the weights that it needs NEAR_STEPS steps later, where the second one is far away. */
enum asks { ASKS_NOTHING, ASKS_NEXT, ASKS_NEAR };
enum { NEAR_STEPS = 24 };

/* Each step of a tile asks for what lies at the same place of a few streams; of 0: for nothing. */
struct asking {
  uintptr_t at;       /* of the first stream; may be past the end of what there is */
  size_t apart, step; /* bytes from stream to stream, from step to step */
  bool far;           /* only the second cache shall have it */
};

XF_INLINE void ask_step(struct asking *next, const int streams)
{
  if (!next->step) return;
  __asm__("" : "+r"(next->at)); /* else clang keeps an address for each stream, and spills */
  XF_UNROLL
  for (int i = 0; i < streams; i++) {
    const void *at = (const void *)(next->at + (size_t)i * next->apart);
    if (next->far)
      __builtin_prefetch(at, 0, 1);
    else
      __builtin_prefetch(at);
  }
  next->at += next->step;
}

/* All of a step's share, for the second cache: where the first has no room for what comes next. */
XF_INLINE void ask_far(struct asking *next, const int streams)
{
  enum { LINE = 64 };
  for (size_t i = 0; i < next->step; i += LINE)
    for (int s = 0; s < streams; s++)
      __builtin_prefetch((const void *)(next->at + (size_t)s * next->apart + i), 0, 1);
  next->at += next->step;
}

/* The share that rows r … r + rows − 1 of `all` have, which each take as many steps, in runs of
 * steps · bytes from `at` on. */
XF_INLINE struct asking asking_share(uintptr_t at, size_t apart, size_t steps, size_t bytes,
                                     size_t r, size_t rows, size_t all)
{
  return (struct asking){at + steps * bytes * r / all, apart, (bytes * rows + all - 1) / all,
                         false};
}

#endif
