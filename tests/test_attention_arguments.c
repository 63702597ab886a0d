/* Misuse of the public attention operator: the arrays that its descriptor points to, its other
 * arguments, memory that overlaps; packing of pages. */
#include <math.h>
#include <string.h>

#include "tests/attention_misuse.h"

/* Sets one element of an array for a call that must be refused. */
static void refuse_entry(const xf_attention_desc *of, const char *word, int64_t *entry,
                         int64_t value, xf_status want)
{
  int64_t kept = *entry;
  *entry = value;
  expect_refused(word, of, want, word);
  *entry = kept;
}

static void test_lengths(void **state)
{
  (void)state;
  static const int64_t far = (int64_t)1 << 40;
  for (int b = 0; b < BATCH; b++) {
    refuse_entry(&plain, "kv_len", &host.kv_len[b], -1, XF_E_SHAPE);
    refuse_entry(&plain, "kv_len", &host.kv_len[b], KEYS + 1, XF_E_SHAPE);
    refuse_entry(&plain, "kv_len", &host.kv_len[b], INT64_MIN, XF_E_SHAPE);
    refuse_entry(&plain, "kv_begin", &host.kv_begin[b], -1, XF_E_SHAPE);
    refuse_entry(&plain, "kv_begin", &host.kv_begin[b], KEYS + 1, XF_E_SHAPE);
    refuse_entry(&plain, "kv_begin", &host.kv_begin[b], INT64_MAX, XF_E_SHAPE);
    refuse_entry(&plain, "q_lens", &host.q_lens[b], -1, XF_E_SHAPE);
    refuse_entry(&plain, "q_lens", &host.q_lens[b], Q_LEN + 1, XF_E_SHAPE);
    refuse_entry(&plain, "q_first", &host.q_first[b], far, XF_E_ARGUMENT);
    refuse_entry(&plain, "q_first", &host.q_first[b], INT64_MIN, XF_E_ARGUMENT);
    refuse_entry(&paged, "kv_len", &host.kv_len[b], far, XF_E_SHAPE);
    refuse_entry(&paged, "page_table_stride", &host.kv_len[b], TABLE * KEYS + 1, XF_E_SHAPE);
    refuse_entry(&packed, "kv_begin", &host.kv_begin[b], 8, XF_E_UNSUPPORTED);
  }
  for (int i = 0; i < BATCH * TABLE; i += TABLE) { /* one page of each sequence is used */
    uint32_t kept = host.table[i];
    host.table[i] = PAGES;
    expect_refused("page", &paged, XF_E_ARGUMENT, "page_table[0]");
    host.table[i] = UINT32_MAX;
    expect_refused("page", &packed, XF_E_ARGUMENT, "page_table[0]");
    host.table[i] = kept;
  }
  static const float bad[] = {NAN, INFINITY, 1e30f};
  for (int i = 0; i < 3; i++) {
    host.slopes[Q_HEADS - 1] = bad[i];
    expect_refused("slope", &plain, XF_E_ARGUMENT, "alibi_slopes[3]");
    host.slopes[Q_HEADS - 1] = 0;
    host.sinks[1] = bad[i];
    expect_refused("sink", &plain, XF_E_ARGUMENT, "sinks[1]");
    host.sinks[1] = 0;
  }
}

static size_t bytes_needed(const xf_attention_desc *desc, size_t workers)
{
  size_t bytes;
  xf_error error;
  if (xf_attention_workspace(misuse_context, desc, workers, &bytes, &error))
    fail_msg("%s", error.message);
  assert_true(bytes > 0 && bytes <= MOST_BYTES);
  return bytes;
}

static void refuse_workspace(const xf_attention_desc *desc, void *workspace, size_t bytes)
{
  xf_error error = {0};
  xf_status status = xf_attention(misuse_context, desc, workspace, bytes, &error);
  expect_failure("workspace", status, &error, XF_E_ARGUMENT, "workspace");
  error = (xf_error){0};
  status = xf_attention_part(misuse_context, desc, workspace, bytes, 0, 0, 2, &error);
  expect_failure("workspace", status, &error, XF_E_ARGUMENT, "workspace");
}

static void test_workspace(void **state)
{
  (void)state;
  size_t bytes = bytes_needed(&plain, 2);
  misuse_poison();
  refuse_workspace(&plain, NULL, bytes);
  refuse_workspace(&plain, host.workspace, bytes - 1);
  refuse_workspace(&plain, host.workspace, 0);
  for (int i = 1; i < 16; i++) refuse_workspace(&plain, host.workspace + i, bytes);
  const void *tensors[] = {plain.q.data,    plain.out.data,    plain.lse.data,     plain.mask.data,
                           plain.kv.k.data, plain.kv.v.data,   plain.q_lens,       plain.q_first,
                           plain.kv.kv_len, plain.kv.kv_begin, plain.alibi_slopes, plain.sinks};
  for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++) {
    uintptr_t inside = ((uintptr_t)tensors[i] + 15) / 16 * 16;
    refuse_workspace(&plain, (void *)inside, bytes);
  }
  uintptr_t scales = ((uintptr_t)host.scales + 15) / 16 * 16;
  refuse_workspace(&paged, (void *)scales, bytes_needed(&paged, 2));
  size_t last = packed.kv.k.stride[0] / 4 * PAGES - 64; /* in the last page */
  uintptr_t page = ((uintptr_t)(host.pages + last) + 15) / 16 * 16;
  refuse_workspace(&packed, (void *)page, bytes_needed(&packed, 2));
  expect_nothing_written();
}

static void refuse_overlap(const xf_attention_desc *of, size_t field, const void *data,
                           const char *word)
{
  xf_attention_desc desc = *of;
  memcpy((char *)&desc + field, &data, sizeof data);
  expect_refused(word, &desc, XF_E_ARGUMENT, word);
}

static void test_overlaps(void **state)
{
  (void)state;
  const size_t out = offsetof(xf_attention_desc, out.data), lse = offsetof(xf_attention_desc, lse);
  const void *inputs[] = {host.q,        host.k,      host.v,      host.mask,
                          host.slopes,   host.sinks,  host.q_lens, host.q_first,
                          host.kv_begin, host.kv_len, host.k + 40, host.mask + 9};
  for (size_t i = 0; i < sizeof inputs / sizeof *inputs; i++) {
    refuse_overlap(&plain, out, inputs[i], "out:");
    refuse_overlap(&plain, lse, inputs[i], "lse:");
  }
  refuse_overlap(&plain, lse, host.out + 5, "lse:");
  refuse_overlap(&paged, out, host.scales, "out:");
  refuse_overlap(&paged, lse, host.table, "lse:");
  size_t last = packed.kv.k.stride[0] / 4 * PAGES - 1;
  refuse_overlap(&packed, lse, host.pages + last, "lse:");
}

static void test_calls(void **state)
{
  (void)state;
  xf_error error = {0};
  size_t bytes = bytes_needed(&plain, 0);
  void *w = host.workspace;
  misuse_poison();
  expect_failure("context", xf_attention(NULL, &plain, w, bytes, &error), &error, XF_E_ARGUMENT,
                 "context");
  expect_failure("desc", xf_attention(misuse_context, NULL, w, bytes, &error), &error,
                 XF_E_ARGUMENT, "descriptor");
  expect_failure("bytes", xf_attention_workspace(misuse_context, &plain, 1, NULL, &error), &error,
                 XF_E_ARGUMENT, "bytes");
  expect_failure("workers", xf_attention_workspace(misuse_context, &plain, 1 << 20, &bytes, &error),
                 &error, XF_E_ARGUMENT, "workers");
  static const struct {
    int phase;
    size_t ith, nth;
    const char *word;
  } parts[] = {{-1, 0, 1, "phase"},       {2, 0, 1, "phase"},         {0, 0, 0, "worker"},
               {0, 1, 1, "worker"},       {1, SIZE_MAX, 2, "worker"}, {0, 0, SIZE_MAX, "workers"},
               {0, 5, 1 << 20, "workers"}};
  for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
    expect_failure("part",
                   xf_attention_part(misuse_context, &plain, w, MOST_BYTES, parts[i].phase,
                                     parts[i].ith, parts[i].nth, &error),
                   &error, XF_E_ARGUMENT, parts[i].word);
  assert_int_equal(xf_attention_part(NULL, &plain, w, bytes, 0, 0, 1, NULL), XF_E_ARGUMENT);
  expect_nothing_written();
}

/* An older caller's descriptor is shorter: what it lacks counts as zero. And the good calls run. */
static void test_good_calls(void **state)
{
  (void)state;
  const xf_attention_desc *good[] = {&plain, &paged, &packed};
  xf_error error;
  for (int i = 0; i < 3; i++)
    if (xf_attention(misuse_context, good[i], host.workspace, MOST_BYTES, &error))
      fail_msg("layout %d: %s", i, error.message);
  static float want[BATCH * Q_LEN * Q_HEADS * D_V];
  xf_attention_desc whole = plain, older = plain;
  for (size_t i = 0; i < sizeof host.q / 4; i++) host.q[i] = (float)(i % 7) - 3;
  for (size_t i = 0; i < sizeof host.v / 4; i++) host.v[i] = host.k[i % 512] = (float)(i % 11) - 5;
  whole.mask = (xf_view){0}, whole.alibi_slopes = NULL, whole.sinks = NULL, whole.window = 0;
  assert_int_equal(xf_attention(misuse_context, &whole, host.workspace, MOST_BYTES, &error), XF_OK);
  memcpy(want, host.out, sizeof want);
  misuse_poison();
  older.struct_size = offsetof(xf_attention_desc, window);
  older.window = -1;
  assert_int_equal(xf_attention(misuse_context, &older, host.workspace, MOST_BYTES, &error), XF_OK);
  assert_memory_equal(host.out, want, sizeof want);
}

/* ---- pages ---- */

static void refuse_page(size_t page_len, size_t kv_heads, size_t d_k, size_t d_v)
{
  size_t bytes = 5;
  xf_error error = {0};
  xf_status status = xf_kv_page_bytes(XF_BF16, page_len, kv_heads, d_k, d_v, &bytes, &error);
  if (status != XF_E_SHAPE || error.status != status || bytes != 5 || !error.message[0])
    fail_msg("page of %zu, %zu heads, %zu, %zu: %s", page_len, kv_heads, d_k, d_v,
             xf_status_string(status));
}

static void test_page_bytes(void **state)
{
  (void)state;
  const size_t lengths[] = {0, 1, 15, 24, SIZE_MAX, SIZE_MAX - 15, (size_t)1 << 40};
  for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) refuse_page(lengths[i], 1, 64, 64);
  const size_t bad[] = {0, SIZE_MAX, 257, (size_t)1 << 33};
  for (size_t i = 0; i < 4; i++) {
    if (bad[i] != 257) refuse_page(16, bad[i], 64, 64);
    refuse_page(16, 1, bad[i], 64);
    refuse_page(16, 1, 64, bad[i]);
  }
  assert_int_equal(xf_kv_page_bytes(XF_F32, 16, 1, 1, 1, NULL, NULL), XF_E_ARGUMENT);
  const xf_type types[] = {0, XF_I8_ROW, XF_BOOL, XF_Q8_0, (xf_type)99};
  for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
    size_t bytes = 5;
    xf_error error = {0};
    xf_status status = xf_kv_page_bytes(types[i], 16, 1, 1, 1, &bytes, &error);
    expect_failure("type", status, &error, XF_E_UNSUPPORTED, "type");
    assert_int_equal(bytes, 5);
  }
  size_t whole, half, bytes;
  assert_int_equal(xf_kv_page_bytes(XF_F32, 48, 3, 20, 30, &whole, NULL), XF_OK);
  assert_int_equal(xf_kv_page_bytes(XF_F16, 48, 3, 20, 30, &half, NULL), XF_OK);
  assert_int_equal(xf_kv_page_bytes(XF_I8, 48, 3, 20, 30, &bytes, NULL), XF_OK);
  assert_int_equal(whole, 2 * half);
  assert_int_equal(whole, 4 * (bytes - 2 * sizeof(float) * 48 * 3)); /* without the scales */
}

struct pack {
  const char *word;
  xf_status status;
  xf_type type;
  size_t page_len;
  xf_view k, v;
  size_t first;
  void *pages;
  size_t page_bytes, n_pages;
  const uint32_t *table;
};

static void run_pack(const struct pack *p)
{
  xf_error error = {0};
  xf_status status = xf_kv_pack(misuse_context, p->type, p->page_len, &p->k, &p->v, p->first,
                                p->pages, p->page_bytes, p->n_pages, p->table, &error);
  if (p->status) {
    expect_failure(p->word, status, &error, p->status, p->word);
  } else if (status) {
    fail_msg("%s", error.message);
  }
}

static void test_pack(void **state)
{
  (void)state;
  size_t bytes = (size_t)packed.kv.k.stride[0], row = KV_HEADS * D_K * 4;
  struct pack good = {"", XF_OK, XF_F32, KEYS, {0}, {0}, 3, host.pages, bytes, PAGES, host.table};
  good.k = (xf_view){host.k, XF_F32, 3, {9, KV_HEADS, D_K}, {(int64_t)row, D_K * 4, 4}};
  good.v = (xf_view){host.v, XF_F32, 3, {9, KV_HEADS, D_V}, {(int64_t)row, D_V * 4, 4}};
  struct pack bad[30];
  for (int i = 0; i < 30; i++) bad[i] = good, bad[i].word = "k:", bad[i].status = XF_E_ARGUMENT;
  bad[0].pages = NULL, bad[0].word = "pages";
  bad[1].pages = (char *)host.pages + 2, bad[1].word = "pages";
  bad[2].page_bytes = bytes - 4, bad[2].word = "pages";
  bad[3].page_bytes = bytes + 2, bad[3].word = "pages";
  bad[4].first = SIZE_MAX, bad[4].word = "first";
  bad[5].first = (size_t)1 << 30, bad[5].word = "first";
  bad[6].table = (const uint32_t *)(const void *)((const char *)host.table + 1);
  bad[6].word = "page_table";
  bad[7].page_len = 24, bad[7].word = "page_len", bad[7].status = XF_E_SHAPE;
  bad[8].k.data = NULL;
  bad[9].k.data = (const char *)bad[9].k.data + 1;
  bad[10].k.type = XF_I8, bad[10].status = XF_E_UNSUPPORTED;
  bad[11].k.rank = 4, bad[11].status = XF_E_SHAPE;
  bad[12].k.shape[0] = 8, bad[12].word = "v:", bad[12].status = XF_E_SHAPE;
  bad[13].v.shape[1] = 1, bad[13].word = "v:", bad[13].status = XF_E_SHAPE;
  bad[14].k.shape[2] = 257, bad[14].word = "head_dim", bad[14].status = XF_E_SHAPE;
  bad[15].k.stride[2] = 8, bad[15].status = XF_E_UNSUPPORTED;
  bad[16].v.stride[0] = INT64_MIN, bad[16].word = "v:";
  bad[17].k.shape[0] = -1;
  bad[18].k.shape[0] = INT64_MAX;
  bad[19].page_bytes = SIZE_MAX - 3, bad[19].word = "pages";
  bad[20].n_pages = 0, bad[20].word = "page_table[0]";
  bad[21].first = KEYS - 4, bad[21].n_pages = 1, bad[21].word = "page_table[1]";
  bad[22].first = KEYS * PAGES, bad[22].table = NULL, bad[22].word = "page_table[4]";
  bad[23].n_pages = SIZE_MAX, bad[23].word = "n_pages";
  bad[24].k.data = host.pages + 7, bad[24].word = "k, v: overlap";
  bad[25].v.data = (const char *)host.pages + bytes * PAGES - 4, bad[25].word = "k, v: overlap";
  bad[26].type = XF_I8_ROW, bad[26].word = "type", bad[26].status = XF_E_UNSUPPORTED;
  bad[27].type = XF_F16, bad[27].pages = (char *)host.pages + 1, bad[27].word = "pages";
  bad[28].type = XF_I8, bad[28].pages = (char *)host.pages + 2, bad[28].word = "pages";
  bad[29].type = XF_I8, bad[29].page_bytes = bytes - 2, bad[29].word = "pages";
  for (int i = 0; i < 30; i++) run_pack(&bad[i]);
  run_pack(&good);
  xf_error error;
  expect_failure(
      "context",
      xf_kv_pack(NULL, XF_F32, KEYS, &good.k, &good.v, 0, host.pages, bytes, PAGES, NULL, &error),
      &error, XF_E_ARGUMENT, "context");
  expect_failure("k",
                 xf_kv_pack(misuse_context, XF_F32, KEYS, NULL, &good.v, 0, host.pages, bytes,
                            PAGES, NULL, &error),
                 &error, XF_E_ARGUMENT, "k");
  expect_failure("v",
                 xf_kv_pack(misuse_context, XF_F32, KEYS, &good.k, NULL, 0, host.pages, bytes,
                            PAGES, NULL, &error),
                 &error, XF_E_ARGUMENT, "v");
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_lengths),    cmocka_unit_test(test_workspace),
      cmocka_unit_test(test_overlaps),   cmocka_unit_test(test_calls),
      cmocka_unit_test(test_good_calls), cmocka_unit_test(test_page_bytes),
      cmocka_unit_test(test_pack)};
  return cmocka_run_group_tests_name("attention arguments", tests, misuse_set_up, misuse_tear_down);
}
