/* Causal attention on plain arrays: 4 query heads share 2 KV heads. */
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "exactflash/exactflash.h"

enum { TOKENS = 100, Q_HEADS = 4, KV_HEADS = 2, D = 64 };
static float q[TOKENS * Q_HEADS * D], k[TOKENS * KV_HEADS * D], v[TOKENS * KV_HEADS * D];
static float out[TOKENS * Q_HEADS * D];

/* [1, TOKENS, heads, D], one element behind the other. */
static xf_view view(const void *data, int64_t heads)
{
  return (xf_view){
      data, XF_F32, 4, {1, TOKENS, heads, D}, {TOKENS * heads * D * 4, heads * D * 4, D * 4, 4}};
}

int main(void)
{
  for (int i = 0; i < TOKENS * KV_HEADS * D; i++) k[i] = v[i] = (float)(i % 13) / 13;
  for (int i = 0; i < TOKENS * Q_HEADS * D; i++) q[i] = (float)(i % 7) / 7;
  xf_attention_desc desc = {.struct_size = sizeof desc, .causal = 1};
  desc.q = view(q, Q_HEADS), desc.out = view(out, Q_HEADS);
  desc.kv.k = view(k, KV_HEADS), desc.kv.v = view(v, KV_HEADS);
  xf_context *context = NULL;
  xf_error error;
  size_t bytes = 0;
  void *workspace = NULL;
  xf_status status = xf_context_create(NULL, &context, &error);
  if (!status) status = xf_attention_workspace(context, &desc, 0, &bytes, &error);
  if (!status) workspace = malloc(bytes); /* aligned to 16, as all that malloc gives */
  if (!status) status = xf_attention(context, &desc, workspace, bytes, &error);
  if (status) fprintf(stderr, "%s\n", error.message);
  for (int i = 0; i < 4 && !status; i++) printf("%f ", (double)out[(TOKENS - 1) * Q_HEADS * D + i]);
  puts("");
  bool good = !status; /* query 0 sees key 0 alone, so that its output is the value of that */
  for (int i = 0; i < D; i++) good = good && fabsf(out[i] - v[i]) < 1e-6f;
  free(workspace);
  xf_context_destroy(context);
  return !good;
}
