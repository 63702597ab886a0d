/* Misuse of the public operators, argument by argument: a status and a message that names the
 * argument, and nothing written. */
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "exactflash/linear.h"
#include "exactflash/ops.h"
#include "tests/model_support.h"
#include "tests/support.h"

enum { ROWS = 4, N = 6, K = 8, HEADS = 2, WORKSPACE = 70000 };

/* All that calls point to. */
static struct host {
  float a[200], b[200], y[200], w[K + 1], inv_freq[K];
  int64_t positions[ROWS + 1];
  float workspace[WORKSPACE];
} host, before;

static xf_context *context;
static xf_linear *linear; /* [N, K] */

/* Arguments of any operator; those that it does not have are not read. */
struct call {
  const xf_context *context;
  const xf_linear *linear;
  xf_activations activations;
  bool no_view[3]; /* NULL in its place */
  xf_view view[3];
  const float *w, *inv_freq;
  float eps;
  const int64_t *positions;
  void *workspace;
  size_t bytes;
  xf_linear **out;
};

static const xf_view *view_of(const struct call *c, size_t i)
{
  return c->no_view[i] ? NULL : &c->view[i];
}

static xf_status run_rms_norm(const struct call *c, xf_error *error)
{
  return xf_rms_norm(c->context, view_of(c, 0), c->w, c->eps, view_of(c, 2), error);
}

static xf_status run_silu_mul(const struct call *c, xf_error *error)
{
  return xf_silu_mul(c->context, view_of(c, 0), view_of(c, 1), view_of(c, 2), error);
}

static xf_status run_rope(const struct call *c, xf_error *error)
{
  return xf_rope(c->context, view_of(c, 2), c->positions, c->inv_freq, error);
}

static xf_status run_linear(const struct call *c, xf_error *error)
{
  return xf_linear_run(c->context, c->linear, c->activations, view_of(c, 0), view_of(c, 2),
                       c->workspace, c->bytes, error);
}

static xf_status run_create(const struct call *c, xf_error *error)
{
  return xf_linear_create(c->context, view_of(c, 0), NULL, c->out, error);
}

/* view[2] is the one that is written. */
static struct op {
  xf_status (*run)(const struct call *c, xf_error *error);
  const char *names[3]; /* of its views; NULL: it has none there */
  struct call good;
} rms_norm = {run_rms_norm, {"x", NULL, "y"}, {0}},
  silu_mul = {run_silu_mul, {"gate", "up", "y"}, {0}}, rope = {run_rope, {NULL, NULL, "x"}, {0}},
  apply = {run_linear, {"x", NULL, "y"}, {0}}, create = {run_create, {"w", NULL, NULL}, {0}};
static struct op *const ops[] = {&rms_norm, &silu_mul, &rope, &apply, &create};
enum { OPS = sizeof ops / sizeof *ops };

static xf_view matrix(const float *data, int64_t rows, int64_t n)
{
  return (xf_view){data, XF_F32, 2, {rows, n}, {(n + 2) * (int64_t)sizeof(float), sizeof(float)}};
}

static int set_up(void **state)
{
  (void)state;
  static xf_linear *made;
  context = open_context(NULL, 2);
  for (size_t i = 0; i < 200; i++) host.a[i] = host.b[i] = 1 + (float)i;
  const xf_view w = matrix(host.a, N, K);
  if (xf_linear_create(context, &w, NULL, &linear, NULL)) return -1;
  const struct call all = {
      .context = context,
      .view = {matrix(host.a, ROWS, K), matrix(host.b, ROWS, K), matrix(host.y, ROWS, K)},
      .w = host.w,
      .inv_freq = host.inv_freq,
      .positions = host.positions,
      .workspace = host.workspace,
      .bytes = xf_linear_workspace(context, linear, ROWS),
      .out = &made};
  for (size_t i = 0; i < OPS; i++) ops[i]->good = all;
  rope.good.view[2] =
      (xf_view){host.y, XF_F32, 3, {ROWS, HEADS, K}, {2 * (K + 1) * 4, (K + 1) * 4, 4}};
  create.good.view[0] = w;
  if (all.bytes > sizeof host.workspace) return -1;
  apply.good.linear = linear;
  apply.good.view[2] = matrix(host.y, ROWS, N);
  return 0;
}

static int tear_down(void **state)
{
  (void)state;
  xf_linear_destroy(linear);
  xf_context_destroy(context);
  return 0;
}

/* The message holds the word. */
static void refuse(const struct op *op, const struct call *call, xf_status want, const char *word)
{
  xf_error error = {0};
  before = host;
  xf_status status = op->run(call, &error);
  if (status != want || error.status != want)
    fail_msg("%s: status %d, not %d: %s", word, status, want, error.message);
  if (!strstr(error.message, word)) fail_msg("no %s in: %s", word, error.message);
  assert_int_equal(op->run(call, NULL), want);
  assert_memory_equal(&host, &before, sizeof host);
}

static void accept(const struct op *op, const struct call *call)
{
  xf_error error = {0};
  struct call copy = *call;
  xf_linear *made = NULL;
  copy.out = &made;
  if (op->run(&copy, &error)) fail_msg("%s", error.message);
  xf_linear_destroy(made);
}

static void test_good_calls(void **state)
{
  (void)state;
  for (size_t i = 0; i < OPS; i++) accept(ops[i], &ops[i]->good);
}

static void test_null(void **state)
{
  (void)state;
  for (size_t i = 0; i < OPS; i++) {
    struct call c = ops[i]->good;
    c.context = NULL;
    refuse(ops[i], &c, XF_E_ARGUMENT, "context");
    for (size_t v = 0; v < 3; v++) {
      c = ops[i]->good;
      c.no_view[v] = true;
      if (ops[i]->names[v]) refuse(ops[i], &c, XF_E_ARGUMENT, ops[i]->names[v]);
    }
  }
  struct call c = rms_norm.good;
  c.w = NULL;
  refuse(&rms_norm, &c, XF_E_ARGUMENT, "w");
  c = rope.good;
  c.positions = NULL;
  refuse(&rope, &c, XF_E_ARGUMENT, "positions");
  c = rope.good;
  c.inv_freq = NULL;
  refuse(&rope, &c, XF_E_ARGUMENT, "inv_freq");
  c = apply.good;
  c.linear = NULL;
  refuse(&apply, &c, XF_E_ARGUMENT, "linear");
  c = create.good;
  c.out = NULL;
  refuse(&create, &c, XF_E_ARGUMENT, "out");
}

/* ---- every view ---- */

static void refuse_view(const struct op *op, size_t v, const xf_view *view, xf_status want)
{
  struct call c = op->good;
  char word[16];
  snprintf(word, sizeof word, "%s: ", op->names[v]);
  c.view[v] = *view;
  refuse(op, &c, want, word);
}

static void refuse_types(const struct op *op, size_t v)
{
  static const int types[] = {0, XF_I8, XF_BOOL, 15, 31, 32, 99, -1};
  xf_view view = op->good.view[v];
  for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
    view.type = (xf_type)types[i];
    refuse_view(op, v, &view, XF_E_UNSUPPORTED);
  }
  for (int type = XF_F16; type <= XF_Q6_K && op != &create; type++) {
    view.type = (xf_type)type;
    refuse_view(op, v, &view, XF_E_UNSUPPORTED);
  }
  view = op->good.view[v];
  view.data = NULL;
  refuse_view(op, v, &view, XF_E_ARGUMENT);
  view.data = (const char *)op->good.view[v].data + 2;
  refuse_view(op, v, &view, XF_E_ARGUMENT);
  view = op->good.view[v];
  static const uint32_t ranks[] = {0, 1, 4, 5, UINT32_MAX};
  for (size_t i = 0; i < sizeof ranks / sizeof *ranks; i++) {
    view.rank = ranks[i];
    refuse_view(op, v, &view, XF_E_SHAPE);
  }
}

static void refuse_shapes(const struct op *op, size_t v)
{
  static const int64_t sizes[] = {-1, ((int64_t)1 << 30) + 1, INT64_MAX, INT64_MIN};
  const xf_view *good = &op->good.view[v];
  for (uint32_t i = 0; i < good->rank; i++)
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
      xf_view view = *good;
      view.shape[i] = sizes[s];
      refuse_view(op, v, &view, XF_E_ARGUMENT);
    }
}

static void refuse_strides(const struct op *op, size_t v)
{
  static const int64_t bad[] = {INT64_MAX - 3, INT64_MIN, (int64_t)1 << 60, -((int64_t)1 << 60), 6};
  const xf_view *good = &op->good.view[v];
  uint32_t last = good->rank - 1;
  for (uint32_t i = 0; i < last; i++) {
    xf_view view = *good;
    for (size_t s = 0; s < sizeof bad / sizeof *bad; s++) {
      view.stride[i] = bad[s];
      refuse_view(op, v, &view, XF_E_ARGUMENT);
    }
    view.stride[i] = good->shape[last] * 4 - 4; /* rows one over the other */
    if (v == 2) refuse_view(op, v, &view, XF_E_ARGUMENT);
    view.stride[i] = 0;
    if (v == 2) refuse_view(op, v, &view, XF_E_ARGUMENT);
  }
  static const int64_t sparse[] = {8, 0, -4};
  for (size_t s = 0; s < 3; s++) {
    xf_view view = *good;
    view.stride[last] = sparse[s];
    refuse_view(op, v, &view, XF_E_UNSUPPORTED);
  }
}

static void test_views(void **state)
{
  (void)state;
  for (size_t i = 0; i < OPS; i++)
    for (size_t v = 0; v < 3; v++)
      if (ops[i]->names[v]) {
        refuse_types(ops[i], v);
        refuse_shapes(ops[i], v);
        refuse_strides(ops[i], v);
      }
}

/* ---- shapes that do not fit, numbers out of range ---- */

static void test_shapes_that_disagree(void **state)
{
  (void)state;
  struct op *const pairs[] = {&rms_norm, &silu_mul, &apply};
  for (size_t i = 0; i < 3; i++)
    for (uint32_t d = 0; d < 2; d++) {
      struct call c = pairs[i]->good;
      c.view[0].shape[d]--;
      /* linear_run takes the rows of x, and its columns from the layer. */
      const char *word = i == 2 && d == 0 ? "y: shape[0]" : ": shape[";
      refuse(pairs[i], &c, XF_E_SHAPE, word);
      c = pairs[i]->good;
      c.view[2].shape[d]--;
      refuse(pairs[i], &c, XF_E_SHAPE, ": shape[");
    }
  struct call c = silu_mul.good;
  c.view[1].shape[1]--;
  refuse(&silu_mul, &c, XF_E_SHAPE, "up: shape[1]");
  for (uint32_t d = 0; d < 2; d++) {
    c = create.good;
    c.view[0].shape[d] = 0;
    refuse(&create, &c, XF_E_SHAPE, "w: ");
  }
  c = rope.good;
  c.view[2].shape[2] = K - 1;
  refuse(&rope, &c, XF_E_UNSUPPORTED, "x: head_dim 7");
  c.view[2] = (xf_view){host.y, XF_F32, 3, {0, 1, 258}, {2000, 2000, 4}};
  refuse(&rope, &c, XF_E_UNSUPPORTED, "x: head_dim 258");
  c = apply.good;
  c.view[0].stride[0] = -c.view[0].stride[0];
  c.view[0].data = host.a + 100;
  refuse(&apply, &c, XF_E_UNSUPPORTED, "x: stride[0]");
  c = apply.good;
  c.view[2].stride[0] = -c.view[2].stride[0];
  c.view[2].data = host.y + 100;
  refuse(&apply, &c, XF_E_UNSUPPORTED, "y: stride[0]");
}

static void test_numbers(void **state)
{
  (void)state;
  static const float eps[] = {-1e-30f, NAN, INFINITY, -INFINITY};
  for (size_t i = 0; i < 4; i++) {
    struct call c = rms_norm.good;
    c.eps = eps[i];
    refuse(&rms_norm, &c, XF_E_ARGUMENT, "eps");
  }
  static const int64_t positions[] = {-1, (1 << 24) + 1, INT64_MAX, INT64_MIN};
  for (size_t i = 0; i < 4; i++) {
    host.positions[ROWS - 1] = positions[i];
    refuse(&rope, &rope.good, XF_E_ARGUMENT, "positions[3]");
  }
  host.positions[ROWS - 1] = 1 << 24;
  accept(&rope, &rope.good);
  struct call c = apply.good;
  c.activations = (xf_activations)2;
  refuse(&apply, &c, XF_E_ARGUMENT, "activations");
  c = apply.good;
  c.bytes--;
  refuse(&apply, &c, XF_E_ARGUMENT, "workspace");
  c.bytes = 0;
  refuse(&apply, &c, XF_E_ARGUMENT, "workspace");
  c = apply.good;
  c.workspace = NULL;
  refuse(&apply, &c, XF_E_ARGUMENT, "workspace");
  c.workspace = (char *)host.workspace + 2;
  refuse(&apply, &c, XF_E_ARGUMENT, "workspace");
}

/* ---- memory ---- */

static void test_alignment(void **state)
{
  (void)state;
  struct call c = rms_norm.good;
  c.w = (const float *)(const void *)((const char *)host.w + 2);
  refuse(&rms_norm, &c, XF_E_ARGUMENT, "w: ");
  c = rope.good;
  c.inv_freq = (const float *)(const void *)((const char *)host.inv_freq + 1);
  refuse(&rope, &c, XF_E_ARGUMENT, "inv_freq: ");
  c = rope.good;
  c.positions = (const int64_t *)(const void *)((const char *)host.positions + 4);
  refuse(&rope, &c, XF_E_ARGUMENT, "positions: ");
}

static void test_overlaps(void **state)
{
  (void)state;
  struct op *const pairs[] = {&rms_norm, &silu_mul, &apply};
  for (size_t i = 0; i < 3; i++) {
    struct call c = pairs[i]->good;
    c.view[2].data = host.a + 1; /* over the end of its row */
    c.view[2].stride[0] = c.view[0].stride[0];
    refuse(pairs[i], &c, XF_E_ARGUMENT, "y: overlaps");
    c.view[2].data = host.a + (K + 2) * (ROWS - 1) + K - 1; /* the last element */
    refuse(pairs[i], &c, XF_E_ARGUMENT, "y: overlaps");
    c.view[2].data = host.a; /* in place, but with another stride */
    c.view[2].stride[0] += 4;
    refuse(pairs[i], &c, XF_E_ARGUMENT, "y: overlaps");
  }
  struct call c = apply.good;
  c.view[2].data = host.a;
  c.view[2].stride[0] = c.view[0].stride[0];
  refuse(&apply, &c, XF_E_ARGUMENT, "y: overlaps x");
  c = silu_mul.good;
  c.view[2].data = host.b + 2;
  refuse(&silu_mul, &c, XF_E_ARGUMENT, "y: overlaps up");
  c = rms_norm.good;
  c.w = host.y + K - 1;
  refuse(&rms_norm, &c, XF_E_ARGUMENT, "w: overlaps y");
  c = rope.good;
  c.inv_freq = host.y + 9;
  refuse(&rope, &c, XF_E_ARGUMENT, "inv_freq: overlaps x");
  c = rope.good;
  c.positions = (const int64_t *)(const void *)host.y;
  refuse(&rope, &c, XF_E_ARGUMENT, "positions: overlaps x");
  for (size_t v = 0; v < 3; v += 2) {
    c = apply.good;
    c.view[v].data = host.workspace + 5;
    refuse(&apply, &c, XF_E_ARGUMENT, "workspace: overlaps");
    c.view[v].data = (float *)host.workspace + apply.good.bytes / sizeof(float); /* behind it */
    accept(&apply, &c);
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_good_calls), cmocka_unit_test(test_null),
      cmocka_unit_test(test_views),      cmocka_unit_test(test_shapes_that_disagree),
      cmocka_unit_test(test_numbers),    cmocka_unit_test(test_alignment),
      cmocka_unit_test(test_overlaps)};
  return cmocka_run_group_tests_name("misuse of the public operators", tests, set_up, tear_down);
}
