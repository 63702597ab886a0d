#include "tests/tokenizer_writer.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/gguf_write.h"
#include "tests/support.h"

const char *const merges[MERGES] = {"h e", "l l", "ll o", "he llo", "Ġ hello",
                                    "Ġ Ġ", "1 2", "a b",  "ĠĠ ĠĠ"};
const char *const added_tokens[ADDED] = {"<|end|>", "<|begin|>", "<tool>", "日本"};

struct text {
  char *data;
  size_t bytes, capacity;
};

__attribute__((format(printf, 2, 3))) static void put(struct text *text, const char *format, ...)
{
  enum { MOST = 4096 };
  if (text->bytes + MOST > text->capacity) {
    text->capacity = 2 * text->capacity + 2 * MOST;
    text->data = realloc(text->data, text->capacity);
  }
  va_list arguments;
  va_start(arguments, format);
  int n = vsnprintf(text->data + text->bytes, MOST, format, arguments);
  va_end(arguments);
  assert_true(n >= 0 && n < MOST);
  text->bytes += (size_t)n;
}

/* The letter of a byte, from the table of Radford et al. 2019 as they build it: the visible bytes
 * are themselves, the n-th other is U+0100 + n. */
static void letter(int byte, char out[3])
{
  int code = byte, others = 0;
  for (int b = 0; b <= byte; b++) {
    bool visible = (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
    if (b == byte && !visible) code = 0x100 + others;
    others += !visible;
  }
  size_t n = 0;
  if (code >= 0x80) out[n++] = (char)(0xC0 | code >> 6);
  out[n++] = (char)(code < 0x80 ? code : 0x80 | (code & 0x3F));
  out[n] = '\0';
}

/* The spelling of token id, malloc. */
static char *spelling(int id)
{
  char out[64];
  if (id < FIRST_MERGED) {
    letter(id, out);
  } else if (id >= FIRST_ADDED) {
    snprintf(out, sizeof out, "%s", added_tokens[id - FIRST_ADDED]);
  } else {
    const char *merge = merges[id - FIRST_MERGED], *space = strchr(merge, ' ');
    snprintf(out, sizeof out, "%.*s%s", (int)(space - merge), merge, space + 1);
  }
  return strdup(out);
}

static const char *part(const char *given, const char *usual)
{
  return given ? given : usual;
}

static void put_vocabulary(struct text *text)
{
  for (int id = 0; id < FIRST_ADDED; id++) {
    char *token = spelling(id);
    const char *escape = *token == '"' || *token == '\\' ? "\\" : "";
    put(text, "%s\"%s%s\": %d", id ? ", " : "", escape, token, id);
    free(token);
  }
}

static void put_merges(struct text *text, const struct json_parts *parts)
{
  for (int i = 0; i < MERGES; i++) {
    const char *space = strchr(merges[i], ' ');
    put(text, parts->merge_pairs ? "%s[\"%.*s\", \"%s\"]" : "%s\"%.*s %s\"", i ? ", " : "",
        (int)(space - merges[i]), merges[i], space + 1);
  }
  put(text, "%s", part(parts->merges, ""));
}

char *write_json(const struct json_parts *parts)
{
  struct text text = {0};
  put(&text, "{\"version\": \"1.0\", \"added_tokens\": [");
  for (int i = 0; i < ADDED; i++)
    put(&text, "%s{\"id\": %d, \"content\": \"%s\", \"special\": %s, \"normalized\": false}",
        i ? ", " : "", FIRST_ADDED + i, added_tokens[i], i < 2 ? "true" : "false");
  put(&text, "%s],\n\"normalizer\": %s,", part(parts->added, ""), part(parts->normalizer, "null"));
  put(&text, "\n\"pre_tokenizer\": %s,",
      part(parts->pre_tokenizer, "{\"type\": \"ByteLevel\", \"add_prefix_space\": false}"));
  put(&text, "\n\"decoder\": %s,", part(parts->decoder, "{\"type\": \"ByteLevel\"}"));
  put(&text, "\n\"post_processor\": %s,", part(parts->post_processor, "null"));
  put(&text, "\n\"model\": {\"type\": \"BPE\", %s \"vocab\": {", part(parts->model, ""));
  put_vocabulary(&text);
  put(&text, "},\n\"merges\": [");
  put_merges(&text, parts);
  put(&text, "]}}\n");
  return text.data;
}

void write_gguf(const char *path, const char *pre)
{
  enum { TOKENS = FIRST_ADDED + ADDED };
  struct xf_gguf_string tokens[TOKENS], lines[MERGES];
  int32_t types[TOKENS];
  for (int id = 0; id < TOKENS; id++) {
    char *token = spelling(id);
    tokens[id] = (struct xf_gguf_string){token, strlen(token)};
    types[id] = id < FIRST_ADDED ? 1 : id < FIRST_ADDED + 2 ? 3 : 4;
  }
  for (int i = 0; i < MERGES; i++) lines[i] = (struct xf_gguf_string){merges[i], strlen(merges[i])};
  struct xf_gguf_writer *writer;
  assert_int_equal(xf_gguf_writer_create(&writer, NULL), XF_OK);
  xf_gguf_add_string(writer, "general.architecture", "llama");
  xf_gguf_add_string(writer, "tokenizer.ggml.model", "gpt2");
  if (pre) xf_gguf_add_string(writer, "tokenizer.ggml.pre", pre);
  xf_gguf_add_strings(writer, "tokenizer.ggml.tokens", tokens, TOKENS);
  xf_gguf_add_array(writer, "tokenizer.ggml.token_type", XF_GGUF_I32, types, TOKENS);
  xf_gguf_add_strings(writer, "tokenizer.ggml.merges", lines, MERGES);
  xf_gguf_add_u32(writer, "tokenizer.ggml.bos_token_id", FIRST_ADDED + 1);
  xf_gguf_add_u32(writer, "tokenizer.ggml.eos_token_id", FIRST_ADDED);
  xf_error error;
  if (xf_gguf_writer_start(writer, path, &error) || xf_gguf_writer_finish(writer, &error))
    fail_msg("%s", error.message);
  xf_gguf_writer_destroy(writer);
  for (int id = 0; id < TOKENS; id++) free((char *)(uintptr_t)tokens[id].text);
}
