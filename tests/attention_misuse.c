#include "tests/attention_misuse.h"

#include <string.h>

#include "tests/attention_call.h"

struct misuse_host host;
xf_context *misuse_context;
xf_attention_desc plain, paged, packed;

static xf_view dense(void *data, xf_type type, uint32_t rank, const int64_t *shape)
{
  xf_view view = {.data = data, .type = type, .rank = rank};
  int64_t step = (int64_t)xf_type_size(type);
  for (uint32_t i = rank; i-- > 0; step *= shape[i])
    view.shape[i] = shape[i], view.stride[i] = step;
  return view;
}

static void describe_plain(void)
{
  plain = (xf_attention_desc){.struct_size = sizeof plain,
                              .q_lens = host.q_lens,
                              .q_first = host.q_first,
                              .scale = 0.5f,
                              .alibi_slopes = host.slopes,
                              .sinks = host.sinks};
  plain.q = dense(host.q, XF_F32, 4, (int64_t[]){BATCH, Q_LEN, Q_HEADS, D_K});
  plain.out = dense(host.out, XF_F32, 4, (int64_t[]){BATCH, Q_LEN, Q_HEADS, D_V});
  plain.lse = dense(host.lse, XF_F32, 3, (int64_t[]){BATCH, Q_LEN, Q_HEADS});
  plain.mask = dense(host.mask, XF_F32, 4, (int64_t[]){BATCH, Q_HEADS, Q_LEN, KEYS});
  plain.kv.k = dense(host.k, XF_F32, 4, (int64_t[]){BATCH, KEYS, KV_HEADS, D_K});
  plain.kv.v = dense(host.v, XF_F32, 4, (int64_t[]){BATCH, KEYS, KV_HEADS, D_V});
  plain.kv.kv_begin = host.kv_begin;
  plain.kv.kv_len = host.kv_len;
}

static void describe_pages(void)
{
  size_t bytes;
  paged = plain;
  paged.mask = (xf_view){0};
  paged.kv.layout = XF_KV_PAGED;
  paged.kv.k = dense(host.k, XF_I8, 4, (int64_t[]){PAGES, KEYS, KV_HEADS, D_K});
  paged.kv.v = dense(host.v, XF_I8, 4, (int64_t[]){PAGES, KEYS, KV_HEADS, D_V});
  paged.kv.k_scale = paged.kv.v_scale =
      dense(host.scales, XF_F32, 3, (int64_t[]){PAGES, KEYS, KV_HEADS});
  paged.kv.page_table = host.table;
  paged.kv.page_table_stride = TABLE;
  packed = paged;
  packed.kv.layout = XF_KV_PACKED;
  assert_int_equal(xf_kv_page_bytes(XF_F32, KEYS, KV_HEADS, D_K, D_V, &bytes, NULL), XF_OK);
  packed.kv.k = (xf_view){
      host.pages, XF_F32, 4, {PAGES, KEYS, KV_HEADS, D_K}, {(int64_t)bytes, INT64_MIN, 1, 77}};
  packed.kv.v = packed.kv.k;
  packed.kv.v.shape[3] = D_V;
  packed.kv.k_scale.rank = 1000; /* of f32 keys: not looked at */
}

int misuse_set_up(void **state)
{
  (void)state;
  misuse_context = context_new(NULL, 2, thread_each);
  for (size_t b = 0; b < BATCH; b++) {
    host.q_lens[b] = Q_LEN, host.kv_len[b] = KEYS, host.q_first[b] = KEYS - Q_LEN;
    for (size_t i = 0; i < TABLE; i++) host.table[b * TABLE + i] = (uint32_t)(b * TABLE + i);
  }
  describe_plain();
  describe_pages();
  return 0;
}

int misuse_tear_down(void **state)
{
  (void)state;
  xf_context_destroy(misuse_context);
  return 0;
}

void expect_failure(const char *what, xf_status got, const xf_error *error, xf_status want,
                    const char *word)
{
  if (got != want || error->status != want)
    fail_msg("%s: status %s, not %s", what, xf_status_string(got), xf_status_string(want));
  if (!strstr(error->message, word))
    fail_msg("%s: the message does not name %s: %s", what, word, error->message);
}

void misuse_poison(void)
{
  memset(host.out, 0xA5, sizeof host.out);
  memset(host.lse, 0xA5, sizeof host.lse);
  memset(host.workspace, 0xA5, sizeof host.workspace);
}

void expect_nothing_written(void)
{
  expect_poison("out", "any", host.out, sizeof host.out / sizeof(float));
  expect_poison("lse", "any", host.lse, sizeof host.lse / sizeof(float));
  expect_poison("workspace", "any", (float *)(void *)host.workspace, MOST_BYTES / sizeof(float));
}

void expect_refused(const char *what, const xf_attention_desc *desc, xf_status want,
                    const char *word)
{
  size_t bytes = 7;
  xf_error error = {0};
  this_case("%s", what);
  misuse_poison();
  xf_status status = xf_attention_workspace(misuse_context, desc, 0, &bytes, &error);
  expect_failure(what, status, &error, want, word);
  assert_int_equal(bytes, 7);
  error = (xf_error){0};
  status = xf_attention(misuse_context, desc, host.workspace, MOST_BYTES, &error);
  expect_failure(what, status, &error, want, word);
  error = (xf_error){0};
  status = xf_attention_part(misuse_context, desc, host.workspace, MOST_BYTES, 0, 0, 1, &error);
  expect_failure(what, status, &error, want, word);
  assert_int_equal(xf_attention(misuse_context, desc, host.workspace, MOST_BYTES, NULL), want);
  expect_nothing_written();
}
