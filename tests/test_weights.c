/* Loading of weights: every packed element, progress and cancellation. test_bad_model.c has what is
 * refused. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/weights.h"
#include "tests/support.h"
#include "tests/tiny_model.h"

static xf_context *context;
static char *folder;

static int start(void **state)
{
  (void)state;
  xf_context_options options = {.struct_size = sizeof options, .threads = 1};
  folder = temporary_folder();
  return xf_context_create(&options, &context, NULL) != XF_OK;
}

static int finish(void **state)
{
  (void)state;
  xf_context_destroy(context);
  free(folder);
  return 0;
}

static struct xf_checkpoint *open_checkpoint(const char *from, struct xf_config *config)
{
  xf_error error = {0};
  struct xf_checkpoint *checkpoint = NULL;
  if (xf_checkpoint_open(from, config, &checkpoint, &error) != XF_OK) fail_msg("%s", error.message);
  return checkpoint;
}

static void load(const char *from, struct xf_config *config, struct xf_weights *weights)
{
  xf_error error = {0};
  struct xf_checkpoint *checkpoint = open_checkpoint(from, config);
  if (xf_weights_load(context, config, checkpoint, NULL, NULL, weights, &error) != XF_OK)
    fail_msg("%s", error.message);
}

/* Rows [first, first + tensor's rows) of a packed layer hold the tensor's bits, and the columns
 * past n zeros. */
static void check_packed(const struct xf_checkpoint *checkpoint, const char *name,
                         const struct xf_linear *linear, size_t first)
{
  const struct xf_tensor *tensor = xf_checkpoint_find(checkpoint, name);
  assert_non_null(tensor);
  const struct xf_linear_part *part = &linear->parts[0];
  assert_int_equal(linear->n_parts, 1);
  assert_int_equal(part->type, tensor->type);
  assert_int_equal(linear->k, tensor->shape[1]);
  size_t size = xf_type_size(tensor->type), k = linear->k;
  const char *panels = linear->panels, *data = tensor->data;
  for (size_t row = 0; row < tensor->shape[0]; row++) {
    size_t n = first + row;
    for (size_t i = 0; i < k; i++) {
      const char *packed = panels + (((n / 16) * k + i) * 16 + n % 16) * size;
      if (memcmp(packed, data + (row * k + i) * size, size) != 0)
        fail_msg("%s [%zu, %zu]", name, row, i);
    }
  }
}

static void check_zero_columns(const struct xf_linear *linear)
{
  size_t size = xf_type_size(linear->parts[0].type);
  const char *panels = linear->panels;
  for (size_t n = linear->n; n % 16 != 0; n++)
    for (size_t i = 0; i < linear->k; i++)
      for (size_t byte = 0; byte < size; byte++)
        assert_int_equal(panels[(((n / 16) * linear->k + i) * 16 + n % 16) * size + byte], 0);
}

static float widen(const struct xf_tensor *tensor, size_t i)
{
  uint32_t bits = 0;
  if (tensor->type == XF_F32) {
    memcpy(&bits, (const char *)tensor->data + 4 * i, 4);
  } else {
    uint16_t half;
    memcpy(&half, (const char *)tensor->data + 2 * i, 2);
    /* Norm gains are positive and near 1: normal numbers in every type. */
    bits = tensor->type == XF_BF16 ? (uint32_t)half << 16 : ((uint32_t)half << 13) + (112u << 23);
  }
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

static void check_norm(const struct xf_checkpoint *checkpoint, const char *name, const float *norm)
{
  const struct xf_tensor *tensor = xf_checkpoint_find(checkpoint, name);
  assert_non_null(tensor);
  for (size_t i = 0; i < tensor->shape[0]; i++)
    if (norm[i] != widen(tensor, i)) fail_msg("%s [%zu]", name, i);
}

static void check_layer(const struct xf_checkpoint *checkpoint, const struct xf_config *config,
                        const struct xf_layer *layer, size_t index)
{
  size_t q = config->heads * config->head_dim, kv = config->kv_heads * config->head_dim;
  const struct {
    const char *name;
    const struct xf_linear *linear;
    size_t first;
  } parts[] = {
      {"self_attn.q_proj", &layer->qkv, 0},
      {"self_attn.k_proj", &layer->qkv, q},
      {"self_attn.v_proj", &layer->qkv, q + kv},
      {"self_attn.o_proj", &layer->o, 0},
      {"mlp.gate_proj", &layer->gate_up, 0},
      {"mlp.up_proj", &layer->gate_up, config->intermediate},
      {"mlp.down_proj", &layer->down, 0},
  };
  char name[128];
  for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
    snprintf(name, sizeof name, "model.layers.%zu.%s.weight", index, parts[i].name);
    check_packed(checkpoint, name, parts[i].linear, parts[i].first);
    check_zero_columns(parts[i].linear);
  }
  assert_int_equal(layer->qkv.n, q + 2 * kv);
  assert_int_equal(layer->gate_up.n, 2 * config->intermediate);
  assert_int_equal(layer->o.n, config->hidden);
  assert_int_equal(layer->down.n, config->hidden);
  snprintf(name, sizeof name, "model.layers.%zu.input_layernorm.weight", index);
  check_norm(checkpoint, name, layer->attention_norm);
  snprintf(name, sizeof name, "model.layers.%zu.post_attention_layernorm.weight", index);
  check_norm(checkpoint, name, layer->mlp_norm);
}

static uint64_t expected_parameters(const struct xf_config *c)
{
  size_t q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;
  size_t layer = c->hidden * (2 * q + 2 * kv + 3 * c->intermediate + 2);
  return c->layers * layer + c->hidden + (c->tied ? 1 : 2) * c->vocab * c->hidden;
}

/* Loads a folder and compares all that is loaded with its files. */
static void check_folder(const char *from)
{
  struct xf_config config;
  struct xf_weights weights;
  load(from, &config, &weights);
  struct xf_checkpoint *checkpoint = open_checkpoint(from, &config);
  assert_int_equal(weights.n_layers, config.layers);
  for (size_t i = 0; i < config.layers; i++)
    check_layer(checkpoint, &config, &weights.layers[i], i);
  check_norm(checkpoint, "model.norm.weight", weights.norm);
  const char *head = config.tied ? "model.embed_tokens.weight" : "lm_head.weight";
  check_packed(checkpoint, head, &weights.head, 0);
  check_zero_columns(&weights.head);
  assert_int_equal(weights.head.n, config.vocab);
  const struct xf_tensor *embedding = xf_checkpoint_find(checkpoint, "model.embed_tokens.weight");
  assert_memory_equal(weights.embedding.data, embedding->data, embedding->bytes);
  float inv_freq[128];
  xf_rope_inv_freq(&config, inv_freq);
  assert_memory_equal(weights.inv_freq, inv_freq, config.head_dim / 2 * sizeof *inv_freq);
  assert_int_equal(weights.parameters, expected_parameters(&config));
  size_t size = xf_type_size(weights.head.parts[0].type);
  uint64_t least = weights.parameters * size - embedding->bytes * (config.tied ? 0 : 1);
  xf_type_share types[XF_TYPES_MOST];
  uint64_t bytes = 0;
  for (size_t i = xf_weights_types(&weights, types); i-- > 0;) bytes += types[i].bytes;
  assert_in_range(bytes, least, 2 * least);
  xf_checkpoint_close(checkpoint);
  xf_weights_free(&weights);
  assert_null(weights.layers);
  xf_weights_free(&weights);
}

static void test_tiny(void **state)
{
  (void)state;
  static const xf_type types[] = {XF_F32, XF_F16, XF_BF16};
  for (size_t i = 0; i < 12; i++) {
    char *at = temporary_folder();
    struct tiny_model model = i % 2 ? tiny_model_ragged() : tiny_model_smallest();
    model.type = types[i / 4];
    model.tied = i / 2 % 2;
    model.shards = i % 3 + 1;
    tiny_model_write(&model, at);
    check_folder(at);
    struct xf_config config;
    struct xf_weights weights;
    load(at, &config, &weights);
    assert_int_equal(weights.parameters, tiny_model_parameters(&model));
    xf_weights_free(&weights);
    free(at);
  }
}

static void test_demo_model(void **state)
{
  (void)state;
  check_folder(source_path("demo-model"));
}

static void test_fixtures(void **state)
{
  (void)state;
  static const char *const folders[] = {
      "models/tl-mini-f32",     "models/tl-mini-bf16",    "models/f16-sharded",
      "models/tied-gqa3-bf16",  "models/llama3-rope-new", "models/llama3-rope-old",
      "models/linear-rope-old", "stories260k/hf",
  };
  for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) check_folder(fixture(folders[i]));
}

struct steps {
  size_t calls, cancel_at;
};

static int count_steps(void *arg, const char *stage, size_t done, size_t total)
{
  struct steps *steps = arg;
  assert_string_equal(stage, "load");
  assert_int_equal(done, steps->calls);
  assert_int_equal(total, 3);
  return steps->calls++ == steps->cancel_at;
}

static void test_progress(void **state)
{
  (void)state;
  struct tiny_model model = tiny_model_smallest();
  struct xf_config config;
  struct xf_weights weights;
  model.layers = 2;
  tiny_model_write(&model, folder);
  for (size_t i = 0; i <= 4; i++) {
    xf_error error = {0};
    struct steps steps = {0, i};
    struct xf_checkpoint *checkpoint = open_checkpoint(folder, &config);
    xf_status status =
        xf_weights_load(context, &config, checkpoint, count_steps, &steps, &weights, &error);
    assert_int_equal(steps.calls, i < 4 ? i + 1 : 4);
    assert_int_equal(status, i < 4 ? XF_E_CANCELLED : XF_OK);
    assert_int_equal(error.status, i < 4 ? XF_E_CANCELLED : XF_OK);
    xf_weights_free(&weights);
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_tiny),
      cmocka_unit_test(test_demo_model),
      cmocka_unit_test(test_fixtures),
      cmocka_unit_test(test_progress),
  };
  return cmocka_run_group_tests(tests, start, finish);
}
