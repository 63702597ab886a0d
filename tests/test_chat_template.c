/* Chat templates: which are recognised, and where they are found. */
#include "model/chat_template.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dispatch/memory.h"
#include "model/gguf_write.h"
#include "tests/folder.h"
#include "tests/spm_writer.h"
#include "tests/tokenizer_support.h"

/* As the models' files have them. */
#define ZEPHYR                                                                                     \
  "{% for message in messages %}\n{% if message['role'] == 'user' %}\n{{ '<|user|>\n' + "          \
  "message['content'] + eos_token }}\n{% elif message['role'] == 'system' %}\n{{ '<|system|>\n' "  \
  "+ message['content'] + eos_token }}\n{% elif message['role'] == 'assistant' %}\n{{ "            \
  "'<|assistant|>\n'  + message['content'] + eos_token }}\n{% endif %}\n{% if loop.last and "      \
  "add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}"
#define CHATML                                                                                     \
  "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + " \
  "'<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' "   \
  "}}{% endif %}"
#define SMOLLM2                                                                                    \
  "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ "        \
  "'<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging "          \
  "Face<|im_end|>\n' }}{% endif %}" CHATML
#define LLAMA3                                                                                     \
  "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = "          \
  "'<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim "  \
  "+ "                                                                                             \
  "'<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ "  \
  "content }}{% endfor %}{% if add_generation_prompt %}{{ "                                        \
  "'<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"

static void test_recognition(void **state)
{
  (void)state;
  static const struct {
    const char *text;
    xf_chat_format format;
  } templates[] = {
      {ZEPHYR, XF_CHAT_ZEPHYR},
      {CHATML, XF_CHAT_CHATML},
      {SMOLLM2, XF_CHAT_CHATML},
      {LLAMA3, XF_CHAT_LLAMA3},
      {"", 0},
      {"{{ bos_token + '[INST] ' + message['content'] + ' [/INST]' }}", 0},
      {"{{'<|user|>' + '\n' + message['content'] + '<|end|>' + '\n' + '<|assistant|>'}}", 0},
      {"{{'<|user|>\n' + message['content'] + '\n<|assistant|>'}}", 0}, /* no EOS */
      {"{{'<|im_start|>user<|im_sep|>' + message['content'] + '<|im_end|>'}}", 0},
      {CHATML "{% if '</think>' in content %}{{ '<think>\n' }}{% endif %}", 0},
      {LLAMA3 "{{- \"Cutting Knowledge Date: December 2023\\n\" }}", 0},
      {ZEPHYR CHATML, 0},
      {"<|im_start|>", 0},
      {"<|im_start|> <|im_end|> <|", XF_CHAT_CHATML},
  };
  for (size_t i = 0; i < sizeof templates / sizeof *templates; i++)
    assert_int_equal(xf_chat_template_format(templates[i].text), templates[i].format);
}

static void test_default_system(void **state)
{
  (void)state;
  static const char *const texts[][2] = {
      {CHATML, ""},
      {SMOLLM2, "You are a helpful AI assistant named SmolLM, trained by Hugging Face"},
      {"'<|im_start|>system\\n' + x + '<|im_start|>system\\nBe kind.<|im_end|>\\n'", "Be kind."},
      {"<|im_start|>system", ""},
      {"<|im_start|>system\nno end", ""},
  };
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
    char *got = xf_chat_template_system(texts[i][0]);
    assert_string_equal(got, texts[i][1]);
    xf_free(got);
  }
}

static void write_text(const char *name, const char *text)
{
  write_file(path_of(name), text, strlen(text));
}

/* tokenizer_config.json with a field that holds a text, or two named ones. */
static void write_config(const char *text, bool named)
{
  char json[8192], quoted[4096], *to = quoted;
  for (; *text; text++) {
    if (*text == '"' || *text == '\\' || *text == '\n') *to++ = '\\';
    *to++ = *text == '\n' ? 'n' : *text;
  }
  *to = '\0';
  snprintf(json, sizeof json,
           named ? "{\"chat_template\": [{\"name\": \"tool_use\", \"template\": \"x\"}, "
                   "{\"name\": \"default\", \"template\": \"%s\"}]}"
                 : "{\"chat_template\": \"%s\"}",
           quoted);
  write_text("tokenizer_config.json", json);
}

static void expect_format(const xf_tokenizer *tokenizer, const char *path, xf_chat_format format,
                          const char *word)
{
  xf_chat *chat = NULL;
  xf_error error = {0};
  xf_status status = xf_chat_create(tokenizer, path, 0, &chat, &error);
  if (format) {
    assert_int_equal(status, XF_OK);
    assert_int_equal(xf_chat_get_format(chat), format);
    assert_string_equal(xf_chat_default_system(chat), word);
  } else {
    assert_null(chat);
    assert_int_equal(status, XF_E_UNSUPPORTED);
    assert_non_null(strstr(error.message, word));
    assert_non_null(strstr(error.message, "zephyr, chatml, llama-3"));
  }
  xf_chat_destroy(chat);
}

static void test_places(void **state)
{
  (void)state;
  static const char *const control[] = {"<|im_start|>", "<|im_end|>", NULL};
  struct message file = spm_model(&(struct spm_options){.control = control});
  write_file(path_of("tokenizer.model"), file.data, file.bytes);
  free(file.data);
  xf_tokenizer *tokenizer = open_tokenizer(path_of("tokenizer.model"));
  expect_format(tokenizer, folder, 0, "no chat template");
  write_text("tokenizer_config.json", "{\"chat_template\": null}");
  expect_format(tokenizer, folder, 0, "no chat template");
  write_config(CHATML, true);
  expect_format(tokenizer, folder, XF_CHAT_CHATML, "");
  write_config(ZEPHYR, false);
  expect_format(tokenizer, folder, XF_CHAT_ZEPHYR, "");
  write_config("{{ '[INST]' }}", false);
  expect_format(tokenizer, folder, 0, "none of those that are supported");
  write_config(LLAMA3, false);
  expect_format(tokenizer, folder, 0, "no special token <|start_header_id|>");
  write_text("chat_template.jinja", SMOLLM2);
  expect_format(tokenizer, folder, XF_CHAT_CHATML,
                "You are a helpful AI assistant named SmolLM, trained by Hugging Face");
  remove(path_of("chat_template.jinja"));

  struct xf_gguf_writer *writer;
  assert_int_equal(xf_gguf_writer_create(&writer, NULL), XF_OK);
  xf_gguf_add_string(writer, "tokenizer.chat_template", ZEPHYR);
  assert_int_equal(xf_gguf_writer_start(writer, path_of("model.gguf"), NULL), XF_OK);
  assert_int_equal(xf_gguf_writer_finish(writer, NULL), XF_OK);
  xf_gguf_writer_destroy(writer);
  expect_format(tokenizer, path_of("model.gguf"), XF_CHAT_ZEPHYR, "");
  xf_tokenizer_close(tokenizer);
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_recognition),
                                     cmocka_unit_test(test_default_system),
                                     cmocka_unit_test(test_places)};
  return cmocka_run_group_tests_name("chat_template", tests, make_folder, free_folder);
}
