#include "tests/model_support.h"

#include <stdlib.h>
#include <string.h>

#include "tests/support.h"

void expect_ok(xf_status status, const xf_error *error)
{
  if (status) fail_msg("%s: %s", xf_status_string(status), error->message);
}

void expect_status(xf_status status, xf_status want, xf_error *error)
{
  if (status != want)
    fail_msg("status is '%s', not '%s' (%s)", xf_status_string(status), xf_status_string(want),
             error->message);
  assert_int_equal(error->status, want);
  assert_true(error->message[0] != '\0');
  *error = (xf_error){0};
}

xf_context *open_context(const char *isa, uint32_t threads)
{
  xf_context_options options = {.struct_size = sizeof options, .isa = isa, .threads = threads};
  xf_context *context = NULL;
  xf_error error = {0};
  expect_ok(xf_context_create(&options, &context, &error), &error);
  return context;
}

xf_model *open_model(const xf_context *context, const char *path, const xf_model_options *options)
{
  xf_model *model = NULL;
  xf_error error = {0};
  expect_ok(xf_model_open(context, path, options, &model, &error), &error);
  return model;
}

xf_cache *new_cache(const xf_model *model, size_t capacity)
{
  xf_cache *cache = NULL;
  xf_error error = {0};
  expect_ok(xf_cache_create(model, capacity, &cache, &error), &error);
  return cache;
}

void run(const xf_model *model, xf_cache *cache, const int32_t *tokens, size_t n, xf_logits logits,
         float *out)
{
  xf_sequence sequence = {cache, tokens, n, logits, out};
  xf_error error = {0};
  expect_ok(xf_forward(model, &sequence, 1, &error), &error);
}

char *write_tiny_model(const struct tiny_model *model)
{
  char *folder = temporary_folder();
  tiny_model_write(model, folder);
  return folder;
}

int32_t *random_ids(uint64_t seed, size_t n, size_t vocab)
{
  struct rng rng = {seed};
  int32_t *ids = malloc(n * sizeof *ids);
  assert_non_null(ids);
  for (size_t i = 0; i < n; i++) ids[i] = (int32_t)rng_below(&rng, vocab);
  return ids;
}

float *new_floats(size_t n)
{
  float *floats = malloc(n * sizeof *floats);
  assert_non_null(floats);
  return floats;
}

struct exported export_cache(const xf_model *model, const xf_cache *cache, size_t max_seq_len)
{
  xf_model_info info;
  xf_model_get_info(model, &info);
  struct exported e = {.layers = info.layers,
                       .floats = max_seq_len * info.kv_heads * info.head_dim,
                       .k = calloc(info.layers, sizeof *e.k),
                       .v = calloc(info.layers, sizeof *e.v)};
  assert_true(e.k && e.v);
  for (size_t i = 0; i < e.layers; i++) {
    e.k[i] = new_floats(e.floats);
    e.v[i] = new_floats(e.floats);
    memset(e.k[i], 0xA5, e.floats * sizeof(float));
    memset(e.v[i], 0xA5, e.floats * sizeof(float));
  }
  xf_error error = {0};
  expect_ok(xf_cache_export(cache, max_seq_len, e.k, e.v, &error), &error);
  return e;
}

void exported_free(struct exported *exported)
{
  for (size_t i = 0; i < exported->layers; i++) {
    free(exported->k[i]);
    free(exported->v[i]);
  }
  free(exported->k);
  free(exported->v);
}

void expect_same_cache(const xf_model *model, const xf_cache *a, const xf_cache *b)
{
  size_t length = xf_cache_length(a);
  assert_int_equal(length, xf_cache_length(b));
  struct exported x = export_cache(model, a, length), y = export_cache(model, b, length);
  for (size_t i = 0; i < x.layers; i++) {
    assert_memory_equal(x.k[i], y.k[i], x.floats * sizeof(float));
    assert_memory_equal(x.v[i], y.v[i], x.floats * sizeof(float));
  }
  exported_free(&x);
  exported_free(&y);
}

cJSON *read_json(const char *path)
{
  size_t bytes;
  char *text = (char *)read_file(path, &bytes);
  cJSON *json = cJSON_ParseWithLength(text, bytes);
  if (!json) fail_msg("%s is not JSON", path);
  free(text);
  return json;
}

const cJSON *json_get(const cJSON *object, const char *name)
{
  const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
  if (!item) fail_msg("no \"%s\" in the JSON", name);
  return item;
}

int32_t *json_ids(const cJSON *array, size_t *n)
{
  *n = (size_t)cJSON_GetArraySize(array);
  int32_t *ids = malloc((*n + 1) * sizeof *ids), *next = ids;
  assert_non_null(ids);
  for (const cJSON *item = array->child; item; item = item->next)
    *next++ = (int32_t)item->valuedouble;
  return ids;
}

void convert_model(const char *from, const char *to, xf_convert_options options)
{
  xf_error error = {0};
  xf_context *context = open_context(NULL, 2);
  options.struct_size = sizeof options;
  options.force = 1;
  expect_ok(xf_convert(context, from, to, &options, &error), &error);
  xf_context_destroy(context);
}
