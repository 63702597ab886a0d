/* The LiteRT delegate as its library is loaded, in a runtime of a few lines: what it claims and
 * what it computes, on CPUs too that have no LiteRT. (tests/litert runs it in LiteRT itself.) */
#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "litert/abi.h"
#include "tests/isas.h"
#include "tests/tflite_file.h"

enum { D = 24, HEADS = 4, KV_HEADS = 2, FIRST = 5, NORMS = 9, N = 70, TENSORS = 8, NODES = 2 };
enum { Q, K, V, MASK, OUT, X, W, Y };

static const float EPSILON = 1e-3f, SCALE = 0.2f;

/* ---- the delegate ---- */

static struct {
  void *handle;
  TfLiteDelegate *(*create)(const char *const *keys, const char *const *values, size_t n,
                            void (*report)(const char *));
  void (*destroy)(TfLiteDelegate *delegate);
} library;

static int load(void **state)
{
  (void)state;
  library.handle = dlopen(XF_DELEGATE, RTLD_NOW | RTLD_LOCAL);
  if (!library.handle) return -1;
  *(void **)&library.create = dlsym(library.handle, "tflite_plugin_create_delegate");
  *(void **)&library.destroy = dlsym(library.handle, "tflite_plugin_destroy_delegate");
  return library.create && library.destroy ? 0 : -1;
}

static int unload(void **state)
{
  (void)state;
  return dlclose(library.handle);
}

static char reported[200];

static void report(const char *message)
{
  snprintf(reported, sizeof reported, "%s", message);
}

/* ---- the runtime ---- */

struct runtime {
  TfLiteContext context; /* first: its functions have its address */
  TfLiteTensor *tensors;
  TfLiteNode nodes[NODES], ours;
  TfLiteRegistration composite, kernel;
  TfLiteStablehloCompositeParams params[NODES];
  unsigned char attributes[NODES][64];
  TfLiteIntArray *plan, *claimed;
};

static TfLiteIntArray *list(int n, const int *numbers)
{
  TfLiteIntArray *made = malloc(sizeof *made + (size_t)n * sizeof *made->data);
  assert_non_null(made);
  made->size = n;
  for (int i = 0; i < n; i++) made->data[i] = numbers[i];
  return made;
}

static TfLiteStatus get_plan(TfLiteContext *context, TfLiteIntArray **plan)
{
  *plan = ((struct runtime *)context)->plan;
  return kTfLiteOk;
}

static TfLiteStatus get_node(TfLiteContext *context, int index, TfLiteNode **node,
                             TfLiteRegistration **registration)
{
  struct runtime *r = (struct runtime *)context;
  *node = &r->nodes[index];
  *registration = &r->composite;
  return kTfLiteOk;
}

static TfLiteStatus resize(TfLiteContext *context, TfLiteTensor *tensor, TfLiteIntArray *size)
{
  (void)context, (void)tensor, (void)size;
  return kTfLiteError; /* outputs have their shape */
}

static void report_error(TfLiteContext *context, const char *format, ...)
{
  (void)context;
  fail_msg("%s", format);
}

static TfLiteStatus add_tensors(TfLiteContext *context, int n, int *first)
{
  (void)context, (void)n, (void)first;
  return kTfLiteError;
}

static void *get_external(TfLiteContext *context, int type)
{
  (void)context, (void)type;
  return NULL;
}

static void set_external(TfLiteContext *context, int type, void *external)
{
  (void)context, (void)type, (void)external;
}

/* All claimed nodes become one kernel, which is made and prepared. */
static TfLiteStatus replace(TfLiteContext *context, TfLiteRegistration registration,
                            const TfLiteIntArray *nodes, TfLiteDelegate *delegate)
{
  struct runtime *r = (struct runtime *)context;
  r->claimed = list(nodes->size, nodes->data);
  r->kernel = registration;
  TfLiteDelegateParams params = {.delegate = delegate, .nodes_to_replace = r->claimed};
  r->ours.user_data = registration.init(context, (const char *)&params, sizeof params);
  assert_non_null(r->ours.user_data);
  return registration.prepare(context, &r->ours);
}

static void add_tensor(struct runtime *r, struct rng *rng, int index, int rank, const int *dims)
{
  size_t n = 1;
  for (int i = 0; i < rank; i++) n *= (size_t)dims[i];
  r->tensors[index] = (TfLiteTensor){.type = kTfLiteFloat32,
                                     .data = malloc(n * sizeof(float)),
                                     .dims = list(rank, dims),
                                     .bytes = n * sizeof(float)};
  assert_non_null(r->tensors[index].data);
  fill_normal(rng, n, r->tensors[index].data);
}

static void add_node(struct runtime *r, int index, const char *name, const char *attribute,
                     float value, int n, const int *inputs, int output)
{
  size_t bytes = tflite_attributes(attribute, value, r->attributes[index]);
  r->params[index] = (TfLiteStablehloCompositeParams){
      .name = name, .attributes = r->attributes[index], .attributes_size = bytes};
  r->nodes[index] = (TfLiteNode){
      .inputs = list(n, inputs), .outputs = list(1, &output), .builtin_data = &r->params[index]};
}

static float *floats(const struct runtime *r, int tensor)
{
  return r->tensors[tensor].data;
}

/* rows queries behind FIRST positions of a cache of so many slots, and a norm. */
static struct runtime *runtime_new(int rows, int slots)
{
  struct rng rng = {1};
  struct runtime *r = calloc(1, sizeof *r);
  assert_non_null(r);
  r->tensors = calloc(TENSORS, sizeof *r->tensors);
  assert_non_null(r->tensors);
  r->context = (TfLiteContext){TENSORS,     get_plan, r->tensors, NULL, resize,       report_error,
                               add_tensors, get_node, replace,    2,    get_external, set_external};
  const int q[] = {1, rows, HEADS, D}, kv[] = {1, slots, KV_HEADS, D}, mask[] = {1, 1, rows, slots};
  add_tensor(r, &rng, Q, 4, q);
  add_tensor(r, &rng, K, 4, kv);
  add_tensor(r, &rng, V, 4, kv);
  add_tensor(r, &rng, MASK, 4, mask);
  add_tensor(r, &rng, OUT, 4, q);
  add_tensor(r, &rng, X, 2, (const int[]){NORMS, N});
  add_tensor(r, &rng, W, 1, (const int[]){N});
  add_tensor(r, &rng, Y, 2, (const int[]){NORMS, N});
  for (int i = 0; i < rows * slots; i++)
    floats(r, MASK)[i] = i % slots <= FIRST + i / slots ? 0 : -INFINITY;
  r->composite.builtin_code = kTfLiteBuiltinStablehloComposite;
  r->plan = list(NODES, (const int[]){0, 1});
  add_node(r, 0, "odml.scaled_dot_product_attention", "scale", SCALE, 4,
           (const int[]){Q, K, V, MASK}, OUT);
  add_node(r, 1, "odml.rms_norm", "epsilon", EPSILON, 2, (const int[]){X, W}, Y);
  return r;
}

static void runtime_free(struct runtime *r)
{
  if (r->ours.user_data) r->kernel.free(&r->context, r->ours.user_data);
  for (int i = 0; i < TENSORS; i++) free(r->tensors[i].data), free(r->tensors[i].dims);
  for (int i = 0; i < NODES; i++) free(r->nodes[i].inputs), free(r->nodes[i].outputs);
  free(r->tensors);
  free(r->plan);
  free(r->claimed);
  free(r);
}

/* ---- tests ---- */

static void expect_close(double got, double want)
{
  if (!(fabs(got - want) <= 1e-5)) fail_msg("%.9g, not %.9g", got, want);
}

static void check_attention(const struct runtime *r, int rows)
{
  double p[FIRST + 700];
  for (int i = 0; i < rows * HEADS; i++) {
    int keys = FIRST + i / HEADS + 1, head = i % HEADS / (HEADS / KV_HEADS);
    double sum = 0;
    for (int j = 0; j < keys; j++) {
      double score = 0;
      const float *q = floats(r, Q) + i * D, *k = floats(r, K) + (j * KV_HEADS + head) * D;
      for (int e = 0; e < D; e++) score += (double)q[e] * (double)k[e];
      sum += p[j] = exp(score * (double)SCALE);
    }
    for (int e = 0; e < D; e++) {
      double out = 0;
      for (int j = 0; j < keys; j++)
        out += p[j] * (double)floats(r, V)[(j * KV_HEADS + head) * D + e];
      expect_close((double)floats(r, OUT)[i * D + e], out / sum);
    }
  }
}

static void check_norm(const struct runtime *r)
{
  for (int i = 0; i < NORMS; i++) {
    const float *x = floats(r, X) + i * N;
    double sum = 0;
    for (int j = 0; j < N; j++) sum += (double)x[j] * (double)x[j];
    for (int j = 0; j < N; j++)
      expect_close((double)floats(r, Y)[i * N + j],
                   (double)x[j] * (double)floats(r, W)[j] / sqrt(sum / N + (double)EPSILON));
  }
}

/* Few rows, which one thread computes, and many; the same bits on every ISA. */
static void test_nodes(void **state)
{
  (void)state;
  static const struct {
    int rows, slots;
  } shapes[] = {{1, 40}, {7, 40}, {600, 700}};
  for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
    float *first = NULL;
    for (const struct xf_kernels *isa = NULL; (isa = next_isa(isa));) {
      const char *const keys[] = {"isa"}, *const values[] = {isa->name};
      TfLiteDelegate *delegate = library.create(keys, values, 1, report);
      if (!delegate) fail_msg("%s", reported);
      struct runtime *r = runtime_new(shapes[i].rows, shapes[i].slots);
      assert_int_equal(delegate->Prepare(&r->context, delegate), kTfLiteOk);
      assert_non_null(r->claimed);
      assert_int_equal(r->claimed->size, NODES);
      assert_int_equal(r->kernel.invoke(&r->context, &r->ours), kTfLiteOk);
      check_attention(r, shapes[i].rows);
      check_norm(r);
      size_t n = r->tensors[OUT].bytes;
      if (!first) first = memcpy(malloc(n), floats(r, OUT), n);
      assert_memory_equal(first, floats(r, OUT), n);
      runtime_free(r);
      library.destroy(delegate);
    }
    free(first);
  }
}

static void test_options(void **state)
{
  (void)state;
  const char *const keys[] = {"threads"}, *const values[] = {"many"};
  assert_null(library.create(keys, values, 1, report));
  assert_non_null(strstr(reported, "option threads: \"many\""));
  library.destroy(NULL);
}

/* What is laid out otherwise is left alone. */
static void test_another_layout(void **state)
{
  (void)state;
  TfLiteDelegate *delegate = library.create(NULL, NULL, 0, report);
  assert_non_null(delegate);
  for (int i = 0; i < 4; i++) {
    struct runtime *r = runtime_new(1, 40);
    if (i == 0) memcpy(&r->context.GetExecutionPlan, &(void *){r->tensors}, sizeof(void *));
    if (i == 1) r->context.tensors_size = 0;
    if (i == 2) r->context.recommended_num_threads = 1 << 20;
    if (i == 3) r->tensors[Q].bytes++;
    assert_int_equal(delegate->Prepare(&r->context, delegate), kTfLiteOk);
    assert_null(r->claimed);
    runtime_free(r);
  }
  library.destroy(delegate);
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_nodes), cmocka_unit_test(test_options),
                                     cmocka_unit_test(test_another_layout),
                                     cmocka_unit_test(test_required_isas)};
  return cmocka_run_group_tests_name("LiteRT delegate", tests, load, unload);
}
