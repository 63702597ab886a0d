/* An attention layer of a model of one's own, for any configuration: projections, RoPE, a KV cache,
 * and attention by the library or by the textbook. Shows that both agree, and that decoding token
 * by token gives the bits of the prompt taken at once. */
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "exactflash/exactflash.h"

enum { TOKENS = 70, CAPACITY = 96 }; /* capacity of the KV cache: kv_cache_max_len */

struct layer_config {
  int64_t hidden_size, heads, kv_heads, head_dim;
  float rope_theta;
  bool use_flash_attention;
};

struct layer {
  struct layer_config config;
  xf_context *context;
  xf_linear *q_proj, *k_proj, *v_proj, *o_proj;
  float *inv_freq;          /* [head_dim / 2] */
  float *k_cache, *v_cache; /* [CAPACITY, kv_heads, head_dim] */
  float *q, *attended;      /* [CAPACITY, heads, head_dim] */
  int64_t length;           /* positions that the cache holds */
  void *workspace;
  size_t bytes;
};

/* [rows, columns], one element behind the other. */
static xf_view matrix(const float *data, int64_t rows, int64_t columns)
{
  return (xf_view){data, XF_F32, 2, {rows, columns}, {columns * 4, 4}};
}

static xf_view heads_of(const float *data, int64_t rows, int64_t heads, int64_t head_dim)
{
  return (xf_view){
      data, XF_F32, 3, {rows, heads, head_dim}, {heads * head_dim * 4, head_dim * 4, 4}};
}

static xf_view batch_of(const float *data, int64_t rows, int64_t heads, int64_t head_dim)
{
  int64_t row = heads * head_dim * 4;
  return (xf_view){data, XF_F32, 4, {1, rows, heads, head_dim}, {rows * row, row, head_dim * 4, 4}};
}

/* Numbers in −1 … 1, the same each time. */
static void fill(float *x, int64_t n, uint32_t seed)
{
  for (int64_t i = 0; i < n; i++) {
    seed = seed * 1664525u + 1013904223u;
    x[i] = (float)(int32_t)seed * 0x1p-31f;
  }
}

/* A projection with weights [rows, columns]; a real one reads them from a file. */
static xf_status make_projection(struct layer *l, int64_t rows, int64_t columns, uint32_t seed,
                                 xf_linear **out, xf_error *error)
{
  float *weights = malloc((size_t)(rows * columns) * sizeof *weights);
  if (!weights) return XF_E_MEMORY;
  fill(weights, rows * columns, seed);
  for (int64_t i = 0; i < rows * columns; i++) weights[i] /= sqrtf((float)columns);
  xf_view view = matrix(weights, rows, columns);
  xf_status status = xf_linear_create(l->context, &view, NULL, out, error);
  free(weights);
  return status;
}

static float *floats(int64_t n)
{
  return calloc((size_t)n, sizeof(float));
}

static xf_status layer_create(struct layer *l, const struct layer_config *c, xf_error *error)
{
  *l = (struct layer){.config = *c};
  int64_t q_size = c->heads * c->head_dim, kv_size = c->kv_heads * c->head_dim;
  l->inv_freq = floats(c->head_dim / 2);
  l->k_cache = floats(CAPACITY * kv_size), l->v_cache = floats(CAPACITY * kv_size);
  l->q = floats(CAPACITY * q_size), l->attended = floats(CAPACITY * q_size);
  if (!l->inv_freq || !l->k_cache || !l->v_cache || !l->q || !l->attended) return XF_E_MEMORY;
  for (int64_t i = 0; i < c->head_dim / 2; i++)
    l->inv_freq[i] = 1 / powf(c->rope_theta, (float)(2 * i) / (float)c->head_dim);
  xf_status status = xf_context_create(NULL, &l->context, error);
  if (!status) status = make_projection(l, q_size, c->hidden_size, 1, &l->q_proj, error);
  if (!status) status = make_projection(l, kv_size, c->hidden_size, 2, &l->k_proj, error);
  if (!status) status = make_projection(l, kv_size, c->hidden_size, 3, &l->v_proj, error);
  if (!status) status = make_projection(l, c->hidden_size, q_size, 4, &l->o_proj, error);
  return status;
}

static void layer_destroy(struct layer *l)
{
  xf_linear_destroy(l->q_proj), xf_linear_destroy(l->k_proj);
  xf_linear_destroy(l->v_proj), xf_linear_destroy(l->o_proj);
  xf_context_destroy(l->context);
  free(l->inv_freq), free(l->k_cache), free(l->v_cache);
  free(l->q), free(l->attended), free(l->workspace);
}

static xf_status grow(struct layer *l, size_t bytes)
{
  if (bytes <= l->bytes) return XF_OK;
  free(l->workspace);
  l->workspace = malloc(bytes); /* aligned to 16, as all that malloc gives */
  l->bytes = l->workspace ? bytes : 0;
  return l->workspace ? XF_OK : XF_E_MEMORY;
}

static xf_status project(struct layer *l, const xf_linear *linear, xf_view x, xf_view y,
                         xf_error *error)
{
  xf_status status = grow(l, xf_linear_workspace(l->context, linear, (size_t)x.shape[0]));
  if (status) return status;
  return xf_linear_run(l->context, linear, XF_ACTIVATIONS_F32, &x, &y, l->workspace, l->bytes,
                       error);
}

static xf_status flash_attention(struct layer *l, int64_t n, xf_error *error)
{
  const struct layer_config *c = &l->config;
  xf_attention_desc desc = {.struct_size = sizeof desc, .causal = 1};
  desc.q = batch_of(l->q, n, c->heads, c->head_dim);
  desc.out = batch_of(l->attended, n, c->heads, c->head_dim);
  desc.kv.k = batch_of(l->k_cache, l->length + n, c->kv_heads, c->head_dim);
  desc.kv.v = batch_of(l->v_cache, l->length + n, c->kv_heads, c->head_dim);
  size_t bytes;
  xf_status status = xf_attention_workspace(l->context, &desc, 0, &bytes, error);
  if (!status) status = grow(l, bytes);
  return status ? status : xf_attention(l->context, &desc, l->workspace, bytes, error);
}

/* The textbook: all scores of a row, then softmax, then the sum. */
static void standard_attention(struct layer *l, int64_t n)
{
  const struct layer_config *c = &l->config;
  int64_t group = c->heads / c->kv_heads, d = c->head_dim;
  for (int64_t i = 0; i < n * c->heads; i++) {
    int64_t row = i / c->heads, kv_head = i % c->heads / group, keys = l->length + row + 1;
    double scores[CAPACITY], top = -INFINITY, total = 0;
    for (int64_t j = 0; j < keys; j++) {
      const float *k = l->k_cache + (j * c->kv_heads + kv_head) * d;
      scores[j] = 0;
      for (int64_t e = 0; e < d; e++) scores[j] += (double)l->q[i * d + e] * (double)k[e];
      scores[j] /= sqrt((double)d);
      top = fmax(top, scores[j]);
    }
    for (int64_t j = 0; j < keys; j++) total += scores[j] = exp(scores[j] - top);
    for (int64_t e = 0; e < d; e++) {
      double sum = 0;
      for (int64_t j = 0; j < keys; j++)
        sum += scores[j] * (double)l->v_cache[(j * c->kv_heads + kv_head) * d + e];
      l->attended[i * d + e] = (float)(sum / total);
    }
  }
}

/* y = layer(x) for the next n tokens; x, y: [n, hidden_size]. */
static xf_status layer_run(struct layer *l, const float *x, int64_t n, float *y, xf_error *error)
{
  const struct layer_config *c = &l->config;
  int64_t q_size = c->heads * c->head_dim, kv_size = c->kv_heads * c->head_dim;
  float *k = l->k_cache + l->length * kv_size, *v = l->v_cache + l->length * kv_size;
  int64_t positions[CAPACITY];
  if (n > CAPACITY - l->length) return XF_E_CACHE_FULL;
  for (int64_t i = 0; i < n; i++) positions[i] = l->length + i;
  xf_view in = matrix(x, n, c->hidden_size);
  xf_view q_heads = heads_of(l->q, n, c->heads, c->head_dim);
  xf_view k_heads = heads_of(k, n, c->kv_heads, c->head_dim);
  xf_status status = project(l, l->q_proj, in, matrix(l->q, n, q_size), error);
  if (!status) status = project(l, l->k_proj, in, matrix(k, n, kv_size), error);
  if (!status) status = project(l, l->v_proj, in, matrix(v, n, kv_size), error);
  if (!status) status = xf_rope(l->context, &q_heads, positions, l->inv_freq, error);
  if (!status) status = xf_rope(l->context, &k_heads, positions, l->inv_freq, error);
  if (!status && c->use_flash_attention) status = flash_attention(l, n, error);
  if (!status && !c->use_flash_attention) standard_attention(l, n);
  xf_view out = matrix(y, n, c->hidden_size);
  if (!status) status = project(l, l->o_proj, matrix(l->attended, n, q_size), out, error);
  if (!status) l->length += n;
  return status;
}

/* The outputs of TOKENS tokens, `chunk` at a time. */
static xf_status run_all(const struct layer_config *c, const float *x, int64_t chunk, float *y,
                         xf_error *error)
{
  struct layer layer;
  xf_status status = layer_create(&layer, c, error);
  for (int64_t i = 0; i < TOKENS && !status; i += chunk) {
    int64_t n = TOKENS - i < chunk ? TOKENS - i : chunk;
    status = layer_run(&layer, x + i * c->hidden_size, n, y + i * c->hidden_size, error);
  }
  layer_destroy(&layer);
  return status;
}

int main(void)
{
  const struct layer_config configs[] = {
      {256, 8, 2, 32, 10000, true}, {192, 3, 3, 64, 500000, true}, {96, 4, 1, 80, 10000, true}};
  for (size_t i = 0; i < sizeof configs / sizeof *configs; i++) {
    struct layer_config flash = configs[i], standard = flash;
    standard.use_flash_attention = false;
    int64_t n = TOKENS * flash.hidden_size;
    float *x = floats(n), *at_once = floats(n), *by_token = floats(n), *textbook = floats(n);
    xf_error error = {XF_E_MEMORY, "out of memory"};
    bool good = x && at_once && by_token && textbook;
    if (good) fill(x, n, 5);
    good = good && !run_all(&flash, x, TOKENS, at_once, &error) &&
           !run_all(&flash, x, 1, by_token, &error) &&
           !run_all(&standard, x, TOKENS, textbook, &error);
    float difference = 0;
    for (int64_t j = 0; j < n && good; j++)
      difference = fmaxf(difference, fabsf(at_once[j] - textbook[j]));
    bool same = good && memcmp(at_once, by_token, (size_t)n * sizeof *x) == 0;
    if (good)
      printf("hidden_size %d, %d heads, %d KV heads: token by token %s; textbook differs by %.1e\n",
             (int)flash.hidden_size, (int)flash.heads, (int)flash.kv_heads,
             same ? "the same bits" : "OTHER BITS", (double)difference);
    else
      fprintf(stderr, "%s\n", error.message);
    free(x), free(at_once), free(by_token), free(textbook);
    if (!same || difference > 1e-5f) return 1;
  }
  return 0;
}
