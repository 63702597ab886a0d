#include "model/chat_template.h"

#include <stdbool.h>
#include <string.h>

#include "dispatch/memory.h"
#include "model/file.h"
#include "model/gguf.h"
#include "model/json.h"

static char *copy(const char *text, size_t bytes)
{
  char *out = xf_alloc(bytes + 1, 1);
  if (!out) return NULL;
  memcpy(out, text, bytes);
  out[bytes] = '\0';
  return out;
}

static xf_status keep(const char *path, const char *text, size_t bytes, char **out, xf_error *error)
{
  *out = copy(text, bytes);
  return *out ? XF_OK : xf_file_no_memory(error, path);
}

static xf_status read_gguf(const char *path, char **out, xf_error *error)
{
  struct xf_gguf gguf;
  xf_status status = xf_gguf_open(path, &gguf, error);
  if (status) return status;
  struct xf_gguf_string text = {0};
  status = xf_gguf_get_string(&gguf, "tokenizer.chat_template", &text, error);
  if (!status && text.text) status = keep(path, text.text, text.bytes, out, error);
  xf_gguf_close(&gguf);
  return status;
}

static xf_status read_jinja(const char *path, char **out, xf_error *error)
{
  struct xf_file file;
  xf_status status = xf_file_map(path, &file, error);
  if (status) return status;
  status = keep(path, file.data ? (const char *)file.data : "", file.bytes, out, error);
  xf_file_unmap(&file);
  return status;
}

/* The field is a text, or a list of {"name", "template"} of which the one named default counts. */
static xf_status read_config(const char *path, char **out, xf_error *error)
{
  cJSON *json;
  xf_status status = xf_json_read(path, &json, error);
  if (status) return status;
  const cJSON *field = xf_json_get(json, "chat_template"), *item;
  const char *text = cJSON_GetStringValue(field);
  cJSON_ArrayForEach(item, field) if (xf_json_is_text(xf_json_get(item, "name"), "default")) text =
      cJSON_GetStringValue(xf_json_get(item, "template"));
  if (text) status = keep(path, text, strlen(text), out, error);
  cJSON_Delete(json);
  return status;
}

xf_status xf_chat_template_read(const char *path, char **out, xf_error *error)
{
  *out = NULL;
  if (!xf_path_is_folder(path)) return read_gguf(path, out, error);
  char *jinja = xf_path_join(path, "chat_template.jinja");
  char *config = xf_path_join(path, "tokenizer_config.json");
  xf_status status = XF_OK;
  if (!jinja || !config)
    status = xf_file_no_memory(error, path);
  else if (xf_path_exists(jinja))
    status = read_jinja(jinja, out, error);
  else if (xf_path_exists(config))
    status = read_config(config, out, error);
  xf_free(jinja);
  xf_free(config);
  return status;
}

/* The markers of a format: those it must have, then those it may have. */
struct markers {
  xf_chat_format format;
  unsigned needed;
  const char *list[8];
};

static const struct markers known[] = {
    {XF_CHAT_ZEPHYR, 2, {"<|user|>", "<|assistant|>", "<|system|>", "<|endoftext|>"}},
    {XF_CHAT_CHATML, 2, {"<|im_start|>", "<|im_end|>", "<|endoftext|>"}},
    {XF_CHAT_LLAMA3,
     3,
     {"<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|begin_of_text|>",
      "<|end_of_text|>", "<|python_tag|>", "<|eom_id|>"}},
};

static bool is_one_of(const char *const *list, const char *marker, size_t bytes)
{
  for (; *list; list++)
    if (strlen(*list) == bytes && strncmp(*list, marker, bytes) == 0) return true;
  return false;
}

static bool fits(const struct markers *format, const char *text)
{
  for (unsigned i = 0; i < format->needed; i++)
    if (!strstr(text, format->list[i])) return false;
  for (const char *from = text; (from = strstr(from, "<|")); from += 2) {
    const char *end = strstr(from, "|>");
    if (end && !is_one_of(format->list, from, (size_t)(end - from) + 2)) return false;
  }
  return true;
}

xf_chat_format xf_chat_template_format(const char *text)
{
  static const char *const strange[] = {"<think>", "strftime_now", "Cutting Knowledge Date"};
  for (size_t i = 0; i < sizeof strange / sizeof *strange; i++)
    if (strstr(text, strange[i])) return 0;
  for (size_t i = 0; i < sizeof known / sizeof *known; i++)
    if (fits(&known[i], text))
      return known[i].format == XF_CHAT_ZEPHYR && !strstr(text, "eos_token") ? 0 : known[i].format;
  return 0;
}

/* The line break is one character in the file, or is spelled \n. */
char *xf_chat_template_system(const char *text)
{
  static const char begin[] = "<|im_start|>system", end[] = "<|im_end|>";
  for (; (text = strstr(text, begin)); text++) {
    const char *from = text + strlen(begin);
    if (*from == '\n')
      from++;
    else if (strncmp(from, "\\n", 2) == 0)
      from += 2;
    else
      continue;
    size_t bytes = strcspn(from, "'\"{}\\<");
    if (bytes && strncmp(from + bytes, end, strlen(end)) == 0) return copy(from, bytes);
  }
  return copy("", 0);
}
