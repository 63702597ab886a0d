/* Misuse of the public attention operator, field by field of its descriptor: a status and a message
 * that names the field, and nothing written. */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "tests/attention_misuse.h"

/* A descriptor in which one field has another value. */
struct misuse {
  const xf_attention_desc *of;
  const char *word; /* that the message must hold */
  size_t offset, size;
  int64_t value; /* its low bytes; floats as bits */
  xf_status status;
};

#define FIELD(field) offsetof(xf_attention_desc, field), sizeof(((xf_attention_desc *)NULL)->field)
#define ADDRESS(p)   ((int64_t)(intptr_t)(p))

enum { NAN_BITS = 0x7FC00000, INFINITY_BITS = 0x7F800000, MINUS_1_BITS = (int)0xBF800000 };

static const int64_t huge = (int64_t)1 << 61;

static void run_misuses(const struct misuse *misuses, size_t n)
{
  for (size_t i = 0; i < n; i++) {
    char what[100];
    xf_attention_desc desc = *misuses[i].of;
    memcpy((char *)&desc + misuses[i].offset, &misuses[i].value, misuses[i].size);
    snprintf(what, sizeof what, "misuse %zu: %s = %lld", i, misuses[i].word,
             (long long)misuses[i].value);
    expect_refused(what, &desc, misuses[i].status, misuses[i].word);
  }
}

static void test_options(void **state)
{
  (void)state;
  const struct misuse misuses[] = {
      {&plain, "struct_size", FIELD(struct_size), 0, XF_E_ARGUMENT},
      {&plain, "struct_size", FIELD(struct_size), 4, XF_E_ARGUMENT},
      {&plain, "struct_size", FIELD(struct_size), sizeof plain - 4, XF_E_ARGUMENT},
      {&plain, "struct_size", FIELD(struct_size), sizeof plain + 8, XF_E_ARGUMENT},
      {&plain, "struct_size", FIELD(struct_size), -1, XF_E_ARGUMENT},
      {&plain, "q:", FIELD(struct_size), 8, XF_E_ARGUMENT},
      {&plain, "scale", FIELD(scale), NAN_BITS, XF_E_ARGUMENT},
      {&plain, "scale", FIELD(scale), INFINITY_BITS, XF_E_ARGUMENT},
      {&plain, "scale", FIELD(scale), 0x7F000000, XF_E_ARGUMENT},
      {&plain, "soft_cap", FIELD(soft_cap), NAN_BITS, XF_E_ARGUMENT},
      {&plain, "soft_cap", FIELD(soft_cap), INFINITY_BITS, XF_E_ARGUMENT},
      {&plain, "soft_cap", FIELD(soft_cap), MINUS_1_BITS, XF_E_ARGUMENT},
      {&plain, "soft_cap", FIELD(soft_cap), 1, XF_E_ARGUMENT},
      {&plain, "window", FIELD(window), -1, XF_E_ARGUMENT},
      {&plain, "window", FIELD(window), huge, XF_E_ARGUMENT},
      {&plain, "split", FIELD(split), 3, XF_E_ARGUMENT},
      {&plain, "kv.layout", FIELD(kv.layout), 3, XF_E_ARGUMENT},
      {&plain, "kv.layout", FIELD(kv.layout), -1, XF_E_ARGUMENT},
      {&plain, "q_lens", FIELD(q_lens), ADDRESS(host.q_lens) + 1, XF_E_ARGUMENT},
      {&plain, "q_first", FIELD(q_first), ADDRESS(host.q_lens) + 4, XF_E_ARGUMENT},
      {&plain, "kv.kv_begin", FIELD(kv.kv_begin), ADDRESS(host.q_lens) + 2, XF_E_ARGUMENT},
      {&plain, "kv.kv_len", FIELD(kv.kv_len), ADDRESS(host.q_lens) + 1, XF_E_ARGUMENT},
      {&plain, "alibi_slopes", FIELD(alibi_slopes), ADDRESS(host.slopes) + 1, XF_E_ARGUMENT},
      {&plain, "sinks", FIELD(sinks), ADDRESS(host.sinks) + 2, XF_E_ARGUMENT},
      {&paged, "kv.page_table", FIELD(kv.page_table), ADDRESS(host.table) + 1, XF_E_ARGUMENT},
      {&paged, "kv.page_table", FIELD(kv.page_table), 0, XF_E_ARGUMENT},
      {&paged, "kv.kv_len", FIELD(kv.kv_len), 0, XF_E_ARGUMENT},
      {&paged, "page_table_stride", FIELD(kv.page_table_stride), -1, XF_E_ARGUMENT},
      {&paged, "page_table_stride", FIELD(kv.page_table_stride), huge, XF_E_ARGUMENT},
      {&paged, "page_table_stride", FIELD(kv.page_table_stride), 0, XF_E_SHAPE},
      {&packed, "kv.v", FIELD(kv.v.data), ADDRESS(host.pages) + 4, XF_E_ARGUMENT},
      {&packed, "kv.k", FIELD(kv.k.stride[0]), 64, XF_E_SHAPE},
      {&packed, "kv.k", FIELD(kv.k.type), XF_I8_ROW, XF_E_UNSUPPORTED},
      {&packed, "kv.v", FIELD(kv.v.type), XF_BOOL, XF_E_UNSUPPORTED},
      {&packed, "kv.v", FIELD(kv.k.type), XF_I8, XF_E_ARGUMENT},
      {&packed, "kv.v", FIELD(kv.v.type), XF_I8, XF_E_ARGUMENT},
      {&packed, "kv.v", FIELD(kv.k.type), XF_BF16, XF_E_ARGUMENT},
      {&packed, "kv.v", FIELD(kv.v.type), XF_F16, XF_E_ARGUMENT},
      {&packed, "page_len", FIELD(q.rank), 4, XF_E_SHAPE}, /* with page_len 24, see below */
  };
  size_t n = sizeof misuses / sizeof *misuses;
  run_misuses(misuses, n - 1);
  packed.kv.k.shape[1] = packed.kv.v.shape[1] = 24;
  run_misuses(misuses + n - 1, 1);
  packed.kv.k.shape[1] = packed.kv.v.shape[1] = KEYS;
}

/* Pages of bytes have scales in them, which are floats. */
static void test_pages_of_bytes(void **state)
{
  (void)state;
  xf_attention_desc bytes = packed;
  bytes.kv.k.type = bytes.kv.v.type = XF_I8;
  const struct misuse misuses[] = {
      {&bytes, "kv.k", FIELD(kv.k.stride[0]), packed.kv.k.stride[0] + 2, XF_E_ARGUMENT},
      {&bytes, "kv.k", FIELD(kv.k.stride[0]), 64, XF_E_SHAPE},
  };
  run_misuses(misuses, sizeof misuses / sizeof *misuses);
  bytes.kv.k.data = bytes.kv.v.data = (const char *)packed.kv.k.data + 2;
  expect_refused("pages at an odd place", &bytes, XF_E_ARGUMENT, "kv.k");
}

/* ---- every view ---- */

struct view_field {
  const xf_attention_desc *of;
  const char *name;
  size_t offset;
  bool dense, written, optional;
};

static void expect_view_refused(const struct view_field *f, const xf_view *view, xf_status want)
{
  xf_attention_desc desc = *f->of;
  memcpy((char *)&desc + f->offset, view, sizeof *view);
  expect_refused(f->name, &desc, want, f->name);
}

static void check_strides(const struct view_field *f, const xf_view *good)
{
  static const int64_t bad[] = {INT64_MAX, INT64_MIN, (int64_t)1 << 60, -((int64_t)1 << 61)};
  int64_t size = (int64_t)xf_type_size(good->type);
  for (uint32_t i = 0; i < good->rank; i++) {
    xf_view view = *good;
    for (size_t j = 0; j < 4; j++) {
      bool innermost = f->dense && i == good->rank - 1, aligned = bad[j] % size == 0;
      view.stride[i] = bad[j];
      expect_view_refused(f, &view, innermost && aligned ? XF_E_UNSUPPORTED : XF_E_ARGUMENT);
    }
    view.stride[i] = 0;
    if (f->written && !(f->dense && i == good->rank - 1))
      expect_view_refused(f, &view, XF_E_ARGUMENT);
    view.stride[i] = good->stride[i] + 1;
    if (size > 1) expect_view_refused(f, &view, XF_E_ARGUMENT);
  }
  xf_view view = *good;
  view.stride[good->rank - 1] = -size;
  if (f->dense) expect_view_refused(f, &view, XF_E_UNSUPPORTED);
  view = *good;
  view.stride[1] = view.stride[0]; /* two dimensions over each other */
  if (f->written) expect_view_refused(f, &view, XF_E_ARGUMENT);
}

static void check_view(const struct view_field *f)
{
  xf_view good, view;
  memcpy(&good, (const char *)f->of + f->offset, sizeof good);
  view = good, view.data = NULL;
  if (!f->optional) expect_view_refused(f, &view, XF_E_ARGUMENT);
  view = good, view.data = (const char *)good.data + 1;
  if (xf_type_size(good.type) > 1) expect_view_refused(f, &view, XF_E_ARGUMENT);
  for (uint32_t rank = 0; rank < 7; rank++) {
    view = good, view.rank = rank == 6 ? UINT32_MAX : rank;
    if (rank != good.rank) expect_view_refused(f, &view, XF_E_SHAPE);
  }
  static const int types[] = {0, 6, 31, 32, -1, 1 << 30};
  for (size_t i = 0; i < 6; i++) {
    view = good, memcpy(&view.type, &types[i], sizeof view.type);
    expect_view_refused(f, &view, XF_E_UNSUPPORTED);
  }
  view = good, view.type = XF_F16;
  if (strncmp(f->name, "kv.k:", 5) != 0 && strncmp(f->name, "kv.v:", 5) != 0)
    expect_view_refused(f, &view, XF_E_UNSUPPORTED);
  check_strides(f, &good);
}

static void test_views(void **state)
{
  (void)state;
  const struct view_field fields[] = {
      {&plain, "q:", offsetof(xf_attention_desc, q), true, false, false},
      {&plain, "out:", offsetof(xf_attention_desc, out), true, true, false},
      {&plain, "lse:", offsetof(xf_attention_desc, lse), false, true, true},
      {&plain, "kv.k:", offsetof(xf_attention_desc, kv.k), true, false, false},
      {&plain, "kv.v:", offsetof(xf_attention_desc, kv.v), true, false, false},
      {&plain, "mask:", offsetof(xf_attention_desc, mask), false, false, true},
      {&paged, "kv.k:", offsetof(xf_attention_desc, kv.k), true, false, false},
      {&paged, "kv.k_scale:", offsetof(xf_attention_desc, kv.k_scale), false, false, false},
      {&paged, "kv.v_scale:", offsetof(xf_attention_desc, kv.v_scale), false, false, false},
  };
  for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) check_view(&fields[i]);
}

static void test_shapes(void **state)
{
  (void)state;
  const struct misuse misuses[] = {
      {&plain, "q:", FIELD(q.shape[1]), -1, XF_E_ARGUMENT},
      {&plain, "q:", FIELD(q.shape[0]), huge, XF_E_ARGUMENT},
      {&plain, "out:", FIELD(q.shape[1]), Q_LEN - 1, XF_E_SHAPE},
      {&plain, "out:", FIELD(out.shape[0]), 1, XF_E_SHAPE},
      {&plain, "out:", FIELD(out.shape[3]), D_V - 1, XF_E_SHAPE},
      {&plain, "lse:", FIELD(lse.shape[2]), Q_HEADS + 1, XF_E_SHAPE},
      {&plain, "kv.k:", FIELD(kv.k.shape[0]), BATCH + 1, XF_E_SHAPE},
      {&plain, "kv.k:", FIELD(kv.k.shape[3]), D_K + 1, XF_E_SHAPE},
      {&plain, "kv.v:", FIELD(kv.v.shape[1]), KEYS - 1, XF_E_SHAPE},
      {&plain, "kv.v:", FIELD(kv.v.shape[2]), 1, XF_E_SHAPE},
      {&plain, "mask:", FIELD(mask.shape[0]), 1, XF_E_SHAPE},
      {&plain, "mask", FIELD(mask.shape[3]), KEYS - 1, XF_E_SHAPE},
      {&paged, "kv.k_scale:", FIELD(kv.k_scale.shape[2]), 1, XF_E_SHAPE},
      {&paged, "kv.v_scale:", FIELD(kv.v_scale.data), 0, XF_E_ARGUMENT},
  };
  run_misuses(misuses, sizeof misuses / sizeof *misuses);
  xf_attention_desc desc = plain;
  desc.kv.k.shape[2] = desc.kv.v.shape[2] = 3;
  expect_refused("3 KV heads for 4", &desc, XF_E_SHAPE, "heads");
  desc.kv.k.shape[2] = desc.kv.v.shape[2] = 0;
  expect_refused("no KV head", &desc, XF_E_SHAPE, "heads");
  desc = plain;
  desc.q.shape[3] = desc.kv.k.shape[3] = 257;
  expect_refused("d_k 257", &desc, XF_E_UNSUPPORTED, "head_dim");
  desc.q.shape[3] = desc.kv.k.shape[3] = 0;
  expect_refused("d_k 0", &desc, XF_E_UNSUPPORTED, "head_dim");
}

/* Any one or two words of a descriptor with extreme values, but for the arrays that it points to:
 * whatever the answer, no undefined behaviour (with sanitizers) and no size that is absurd. */
static void test_extremes(void **state)
{
  (void)state;
  static const int64_t extremes[] = {0,
                                     1,
                                     -1,
                                     2,
                                     INT64_MAX,
                                     INT64_MIN,
                                     (int64_t)1 << 62,
                                     -((int64_t)1 << 32),
                                     (int64_t)1 << 40,
                                     NAN_BITS};
  static const size_t arrays[] = {
      offsetof(xf_attention_desc, kv.page_table), offsetof(xf_attention_desc, kv.kv_begin),
      offsetof(xf_attention_desc, kv.kv_len),     offsetof(xf_attention_desc, q_lens),
      offsetof(xf_attention_desc, q_first),       offsetof(xf_attention_desc, alibi_slopes),
      offsetof(xf_attention_desc, sinks)};
  const xf_attention_desc *good[] = {&plain, &paged, &packed};
  struct rng rng = {1};
  for (size_t i = 0; i < scaled(100000); i++) {
    xf_attention_desc desc = *good[i % 3];
    for (size_t j = 0; j < 1 + i % 2; j++) {
      size_t offset = 8 * rng_below(&rng, sizeof desc / 8), array = 0;
      while (array < 7 && arrays[array] != offset) array++;
      if (array == 7) memcpy((char *)&desc + offset, &extremes[rng_below(&rng, 10)], 8);
    }
    size_t bytes = 0;
    xf_error error = {0};
    xf_status status = xf_attention_workspace(misuse_context, &desc, 0, &bytes, &error);
    if (status)
      assert_true(error.status == status && error.message[0] && bytes == 0);
    else
      assert_true(bytes > 0 && bytes < MOST_BYTES);
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_options), cmocka_unit_test(test_views), cmocka_unit_test(test_shapes),
      cmocka_unit_test(test_pages_of_bytes), cmocka_unit_test(test_extremes)};
  return cmocka_run_group_tests_name("attention descriptors", tests, misuse_set_up,
                                     misuse_tear_down);
}
