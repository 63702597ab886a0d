/* Attention against results of other software (the fixtures' README): flash, standard and the
 * public operator, every ISA, outputs and log-sum-exps. */
#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "exactflash/attention.h"
#include "tests/attention_call.h"
#include "tests/isas.h"

struct shape {
  size_t batch, q_heads, kv_heads, head_dim, q_len, kv_len;
  int causal;
  double scale, torch_error;
  const cJSON *files;
};

static double number_of(const cJSON *object, const char *name)
{
  const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
  if (!cJSON_IsNumber(item)) fail_msg("attention/manifest.json: no number %s", name);
  return item->valuedouble;
}

static struct shape shape_of(const cJSON *c)
{
  return (struct shape){.batch = (size_t)number_of(c, "batch"),
                        .q_heads = (size_t)number_of(c, "q_heads"),
                        .kv_heads = (size_t)number_of(c, "kv_heads"),
                        .head_dim = (size_t)number_of(c, "head_dim"),
                        .q_len = (size_t)number_of(c, "q_len"),
                        .kv_len = (size_t)number_of(c, "kv_len"),
                        .causal = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(c, "causal")),
                        .scale = number_of(c, "scale"),
                        .torch_error = number_of(c, "f32_sdpa_err_over_mag"),
                        .files = cJSON_GetObjectItemCaseSensitive(c, "files")};
}

static float *read_floats(const struct shape *s, const char *name, size_t n)
{
  char path[500];
  size_t bytes;
  const cJSON *file = cJSON_GetObjectItemCaseSensitive(s->files, name);
  if (!cJSON_IsString(file)) fail_msg("attention/manifest.json: no file %s", name);
  snprintf(path, sizeof path, "attention/%s", file->valuestring);
  unsigned char *data = read_file(fixture(path), &bytes);
  assert_int_equal(bytes, n * sizeof(float));
  return (float *)(void *)data;
}

/* The case's batch as sequences of one call. */
static void load_call(const struct shape *s, xf_type pages, struct call *c)
{
  memset(c, 0, sizeof *c);
  size_t d = s->head_dim, q_row = s->q_heads * d, kv_row = s->kv_heads * d;
  c->a.kv = (struct xf_kv_layout){.type = pages, .page_len = 64, .d_k = d, .d_v = d};
  c->a.q_heads = s->q_heads, c->a.kv_heads = s->kv_heads;
  c->a.q_stride = c->a.out_stride = q_row;
  c->a.scale = (float)s->scale;
  c->a.causal = s->causal;
  call_set_layout(c, 0);
  float *q = read_floats(s, "q", s->batch * s->q_len * q_row);
  float *k = read_floats(s, "k", s->batch * s->kv_len * kv_row);
  float *v = read_floats(s, "v", s->batch * s->kv_len * kv_row);
  for (size_t b = 0; b < s->batch; b++) {
    size_t first = s->causal ? s->kv_len - s->q_len : 0;
    struct call_data *data = call_add(c, first, s->q_len, s->kv_len);
    memcpy(data->q, q + b * s->q_len * q_row, s->q_len * q_row * sizeof *q);
    memcpy(data->k, k + b * s->kv_len * kv_row, s->kv_len * kv_row * sizeof *k);
    memcpy(data->v, v + b * s->kv_len * kv_row, s->kv_len * kv_row * sizeof *v);
    call_write_pages(c);
  }
  free(q), free(k), free(v);
}

/* What a case's results are held against, all of its batch. */
struct expected {
  float *out, *lse, *mag;
};

static double share_of(float got, float want, double tolerance)
{
  double error = fabs((double)got - (double)want);
  return isnan(error) ? INFINITY : error == 0 ? 0 : error / tolerance;
}

/* The greatest error as a share of its tolerance. 4e-6 of mag or, where torch's own f32 error
 * exceeds 1e-6 of mag, four times that error. The log-sum-exp: 4e-6 · max(1, |lse|). */
static double worst_share(const struct shape *s, const float *out, const float *lse,
                          const struct expected *e, size_t b)
{
  double tolerance = s->torch_error > 1e-6 ? 4 * s->torch_error : 4e-6, worst = 0;
  size_t n_lse = s->q_len * s->q_heads, n_out = n_lse * s->head_dim;
  for (size_t i = 0; i < n_out; i++)
    worst = fmax(
        worst, share_of(out[i], e->out[b * n_out + i], tolerance * (double)e->mag[b * n_out + i]));
  for (size_t i = 0; i < n_lse; i++) {
    float want = e->lse[b * n_lse + i];
    worst = fmax(worst, share_of(lse[i], want, 4e-6 * fmax(1, fabs((double)want))));
  }
  return worst;
}

static void check_case(const char *name, const struct shape *s, xf_type pages)
{
  struct call c;
  load_call(s, pages, &c);
  size_t n_lse = s->batch * s->q_len * s->q_heads, n_out = n_lse * s->head_dim;
  struct expected e = {read_floats(s, "out", n_out), read_floats(s, "lse", n_lse),
                       read_floats(s, "mag", n_out)};
  struct call_result got = result_new(&c);
  for (const struct xf_kernels *k = NULL; (k = next_isa(k));) {
    xf_context *context = context_new(k->name, 1, NULL);
    for (int kind = FLASH; kind <= STANDARD; kind++) {
      run_call(context, &c, (enum call_kind)kind, 0, XF_KEYS_AUTO, &got);
      double share = 0;
      for (size_t b = 0; b < s->batch; b++)
        share = fmax(share, worst_share(s, got.out[b], got.lse[b], &e, b));
      if (!(share <= 1))
        fail_msg("%s: %s attention over %s pages on %s errs by %.3g of its tolerance", name,
                 kind == FLASH ? "flash" : "standard", xf_type_name(pages), k->name, share);
      if (k == &xf_kernels_scalar)
        print_message("%-20s %s, %s pages: %.2f of its tolerance\n", name,
                      kind == FLASH ? "flash" : "standard", xf_type_name(pages), share);
    }
    xf_context_destroy(context);
  }
  result_free(&got, c.a.n);
  call_free(&c);
  free(e.out), free(e.lse), free(e.mag);
}

/* The same through the public interface, K and V as they are and, where a case has them exactly in
 * a type of 16 bits, in that. */
static void convert(xf_type type, const float *from, size_t n, uint16_t *to)
{
  for (size_t i = 0; i < n; i++) {
    to[i] = type == XF_BF16 ? to_bf16(from[i]) : to_f16(from[i]);
    float back = type == XF_BF16 ? from_bf16(to[i]) : from_f16(to[i]);
    if (memcmp(&back, &from[i], sizeof back) != 0)
      fail_msg("%a is not exact in %s", (double)from[i], xf_type_name(type));
  }
}

static xf_view dense(const void *data, xf_type type, size_t batch, size_t seq, size_t heads,
                     size_t d)
{
  int64_t size = (int64_t)xf_type_size(type), row = (int64_t)(heads * d) * size;
  return (xf_view){data,
                   type,
                   4,
                   {(int64_t)batch, (int64_t)seq, (int64_t)heads, (int64_t)d},
                   {(int64_t)seq * row, row, (int64_t)d * size, size}};
}

/* What the public operator reads and writes in one case. */
struct host_arrays {
  float *q, *kv[2], *out, *lse;
  uint16_t *halves[2];
  size_t n_kv, n_out, n_lse;
};

static struct host_arrays load_arrays(const struct shape *s)
{
  struct host_arrays h = {.n_kv = s->batch * s->kv_len * s->kv_heads * s->head_dim,
                          .n_lse = s->batch * s->q_len * s->q_heads};
  h.n_out = h.n_lse * s->head_dim;
  h.q = read_floats(s, "q", h.n_out);
  h.kv[0] = read_floats(s, "k", h.n_kv), h.kv[1] = read_floats(s, "v", h.n_kv);
  for (int i = 0; i < 2; i++) h.halves[i] = malloc(h.n_kv * sizeof *h.halves[i]);
  h.out = malloc(h.n_out * sizeof *h.out), h.lse = malloc(h.n_lse * sizeof *h.lse);
  assert_true(h.halves[0] && h.halves[1] && h.out && h.lse);
  return h;
}

static void free_arrays(struct host_arrays *h)
{
  free(h->q), free(h->out), free(h->lse);
  for (int i = 0; i < 2; i++) free(h->kv[i]), free(h->halves[i]);
}

static void run_public(const xf_context *context, const struct shape *s, xf_type type,
                       struct host_arrays *h)
{
  const void *kv[2];
  for (int i = 0; i < 2; i++) {
    if (type != XF_F32) convert(type, h->kv[i], h->n_kv, h->halves[i]);
    kv[i] = type == XF_F32 ? (const void *)h->kv[i] : h->halves[i];
  }
  xf_attention_desc desc = {
      .struct_size = sizeof desc, .scale = (float)s->scale, .causal = s->causal};
  desc.q = dense(h->q, XF_F32, s->batch, s->q_len, s->q_heads, s->head_dim);
  desc.kv.k = dense(kv[0], type, s->batch, s->kv_len, s->kv_heads, s->head_dim);
  desc.kv.v = dense(kv[1], type, s->batch, s->kv_len, s->kv_heads, s->head_dim);
  desc.out = dense(h->out, XF_F32, s->batch, s->q_len, s->q_heads, s->head_dim);
  desc.lse = dense(h->lse, XF_F32, s->batch, s->q_len, s->q_heads, 1);
  desc.lse.rank = 3;
  size_t bytes;
  xf_error error;
  if (xf_attention_workspace(context, &desc, 0, &bytes, &error)) fail_msg("%s", error.message);
  void *workspace = aligned_alloc(16, (bytes + 15) / 16 * 16);
  assert_non_null(workspace);
  if (xf_attention(context, &desc, workspace, bytes, &error)) fail_msg("%s", error.message);
  free(workspace);
}

/* The type of 16 bits in which a case has K and V, else f32. */
static xf_type exact_type(const char *name)
{
  return strcmp(name, "kv_bf16") == 0 ? XF_BF16 : strcmp(name, "kv_f16") == 0 ? XF_F16 : XF_F32;
}

static void check_public(const char *name, const struct shape *s)
{
  struct host_arrays h = load_arrays(s);
  struct expected e = {read_floats(s, "out", h.n_out), read_floats(s, "lse", h.n_lse),
                       read_floats(s, "mag", h.n_out)};
  xf_type exact = exact_type(name);
  const xf_type types[] = {XF_F32, exact};
  for (const struct xf_kernels *k = NULL; (k = next_isa(k));) {
    xf_context *context = context_new(k->name, 2, thread_each);
    for (int i = 0; i < (exact == XF_F32 ? 1 : 2); i++) {
      double worst = 0;
      run_public(context, s, types[i], &h);
      for (size_t b = 0; b < s->batch; b++)
        worst = fmax(worst, worst_share(s, h.out + b * (h.n_out / s->batch),
                                        h.lse + b * (h.n_lse / s->batch), &e, b));
      if (!(worst <= 1))
        fail_msg("%s: K and V of %s on %s err by %.3g of the tolerance", name,
                 xf_type_name(types[i]), k->name, worst);
    }
    xf_context_destroy(context);
  }
  free_arrays(&h);
  free(e.out), free(e.lse), free(e.mag);
}

static void test_fixtures(void **state)
{
  (void)state;
  size_t bytes;
  unsigned char *text = read_file(fixture("attention/manifest.json"), &bytes);
  cJSON *manifest = cJSON_ParseWithLength((const char *)text, bytes);
  assert_non_null(manifest);
  const cJSON *cases = cJSON_GetObjectItemCaseSensitive(manifest, "cases"), *item;
  assert_int_equal(cJSON_GetArraySize(cases), 25);
  cJSON_ArrayForEach(item, cases)
  {
    struct shape s = shape_of(item);
    const cJSON *name = cJSON_GetObjectItemCaseSensitive(item, "name");
    assert_true(cJSON_IsString(name) && s.batch <= MOST_SEQUENCES && s.kv_heads <= MOST_HEADS);
    check_case(name->valuestring, &s, XF_F32);
    xf_type exact = exact_type(name->valuestring);
    if (exact != XF_F32) check_case(name->valuestring, &s, exact);
    check_public(name->valuestring, &s);
  }
  cJSON_Delete(manifest);
  free(text);
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_fixtures),
                                     cmocka_unit_test(test_required_isas)};
  return cmocka_run_group_tests_name("attention fixtures", tests, NULL, NULL);
}
