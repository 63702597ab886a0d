/* Causal attention on plain arrays [tokens, heads, head_dim]: 4 query heads share 2 KV heads. */
#include <stdio.h>
#include <stdlib.h>

#include "exactflash/exactflash.h"

enum { N = 100, D = 64 };
static float q[N][4][D], k[N][2][D], v[N][2][D], out[N][4][D];

int main(void)
{
  for (int i = 0; i < N; i++) q[i][0][0] = k[i][0][0] = v[i][0][0] = (float)(i + 1) / N;
  xf_attention_desc desc = {.struct_size = sizeof desc, .causal = 1};
  desc.q = (xf_view){q, XF_F32, 4, {1, N, 4, D}, {sizeof q, sizeof *q, sizeof **q, sizeof ***q}};
  desc.kv.k = (xf_view){k, XF_F32, 4, {1, N, 2, D}, {sizeof k, sizeof *k, sizeof **k, sizeof ***k}};
  desc.kv.v = desc.kv.k, desc.kv.v.data = v; /* the same shape and strides */
  desc.out = desc.q, desc.out.data = out;
  size_t bytes = 0;
  void *workspace = NULL;
  xf_context *context = NULL;
  xf_error error;
  xf_status status = xf_context_create(NULL, &context, &error);
  if (!status) status = xf_attention_workspace(context, &desc, 0, &bytes, &error);
  if (!status) workspace = malloc(bytes); /* aligned to 16, as all that malloc gives */
  if (!status) status = xf_attention(context, &desc, workspace, bytes, &error);
  puts(status ? error.message : out[0][0][0] == v[0][0][0] ? "query 0 sees key 0 alone" : "wrong");
  free(workspace);
  xf_context_destroy(context);
  return status || out[0][0][0] != v[0][0][0];
}
