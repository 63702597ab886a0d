#include "model/plan.h"

#include <stdio.h>

#include "dispatch/error.h"
#include "dispatch/memory.h"

enum { LONGEST = 1 << 16 }; /* of a chunk */

static const char lengths_key[] = "exactflash.prefill_seq_lens";
static const char capacity_key[] = "exactflash.kv_cache_max_len";
static const char attention_key[] = "exactflash.attention";
static const char *const attentions[] = {
    [XF_ATTENTION_FLASH] = "flash", [XF_ATTENTION_STANDARD] = "standard"};

bool xf_plan_fault(const xf_plan *plan, size_t max_positions, char *text, size_t size)
{
  size_t capacity = plan->kv_cache_max_len, n = plan->n_prefill_seq_lens;
  if (capacity == 0 && n == 0 && plan->attention == XF_ATTENTION_FLASH) return false;
  if (capacity < 1 || capacity > max_positions)
    return snprintf(text, size,
                    "kv_cache_max_len must be from 1 to the model's %zu positions, not %zu",
                    max_positions, capacity);
  if (n > XF_PLAN_LENGTHS)
    return snprintf(text, size, "there are %zu prefill_seq_lens, at most %d can be", n,
                    XF_PLAN_LENGTHS);
  if (plan->attention != XF_ATTENTION_FLASH && plan->attention != XF_ATTENTION_STANDARD)
    return snprintf(text, size, "attention must be flash or standard");
  for (size_t i = 0; i < n; i++) {
    size_t length = plan->prefill_seq_lens[i], least = i ? plan->prefill_seq_lens[i - 1] + 1 : 1;
    if (length < least)
      return snprintf(text, size, "prefill_seq_lens must ascend from 1; %zu is too short", length);
    if (length > capacity || length > LONGEST)
      return snprintf(text, size,
                      "prefill_seq_lens: %zu is longer than the cache (kv_cache_max_len %zu) or "
                      "than %d",
                      length, capacity, LONGEST);
  }
  return false;
}

static xf_status read_lengths(const struct xf_gguf *gguf, xf_plan *out, xf_error *error)
{
  const struct xf_gguf_value *lengths = NULL;
  xf_status status = xf_gguf_get_array(gguf, lengths_key, XF_GGUF_I64, &lengths, error);
  if (status || !lengths) return status;
  if (lengths->n > XF_PLAN_LENGTHS)
    return xf_fail(error, XF_E_FORMAT, "%s: %s has %zu elements; at most %d can be", gguf->path,
                   lengths_key, lengths->n, XF_PLAN_LENGTHS);
  for (size_t i = 0; i < lengths->n; i++) {
    int64_t length = xf_gguf_integer_at(lengths, i);
    if (length < 0 || length > LONGEST) length = 0; /* a fault in any case */
    out->prefill_seq_lens[out->n_prefill_seq_lens++] = (uint32_t)length;
  }
  return XF_OK;
}

static xf_status read_attention(const struct xf_gguf *gguf, xf_plan *out, xf_error *error)
{
  struct xf_gguf_string name = {0};
  xf_status status = xf_gguf_get_string(gguf, attention_key, &name, error);
  if (status || !name.text) return status;
  for (size_t i = 0; i < sizeof attentions / sizeof *attentions; i++)
    if (xf_gguf_string_equal(name, attentions[i])) {
      out->attention = (xf_attention_kind)i;
      return XF_OK;
    }
  return xf_fail(error, XF_E_FORMAT, "%s: %s is \"%.*s\", neither flash nor standard", gguf->path,
                 attention_key, (int)xf_min(name.bytes, 100), name.text);
}

xf_status xf_plan_read(const struct xf_gguf *gguf, size_t max_positions, xf_plan *out,
                       xf_error *error)
{
  char fault[200];
  int64_t capacity = 0;
  *out = (xf_plan){0};
  xf_status status = xf_gguf_get_integer(gguf, capacity_key, 1, UINT32_MAX, &capacity, error);
  out->kv_cache_max_len = (uint32_t)capacity;
  if (!status) status = read_lengths(gguf, out, error);
  if (!status) status = read_attention(gguf, out, error);
  if (!status && xf_plan_fault(out, max_positions, fault, sizeof fault))
    status = xf_fail(error, XF_E_FORMAT, "%s: its plan (exactflash.…): %s", gguf->path, fault);
  return status;
}

void xf_plan_write(const xf_plan *plan, struct xf_gguf_writer *writer)
{
  if (plan->kv_cache_max_len == 0) return;
  xf_gguf_add_u32(writer, capacity_key, plan->kv_cache_max_len);
  xf_gguf_add_array(writer, lengths_key, XF_GGUF_U32, plan->prefill_seq_lens,
                    plan->n_prefill_seq_lens);
  xf_gguf_add_string(writer, attention_key, attentions[plan->attention]);
}

bool xf_plan_is_key(struct xf_gguf_string key)
{
  return xf_gguf_string_equal(key, capacity_key) || xf_gguf_string_equal(key, lengths_key) ||
         xf_gguf_string_equal(key, attention_key);
}

size_t xf_plan_next(const xf_plan *plan, size_t left)
{
  size_t chunk = 0;
  for (size_t i = 0; i < plan->n_prefill_seq_lens && plan->prefill_seq_lens[i] <= left; i++)
    chunk = plan->prefill_seq_lens[i];
  return chunk ? chunk : left;
}
