/* exactflash tokenize: text to ids. */
#include <stdio.h>

#include "cli/commands.h"
#include "cli/json.h"
#include "cli/report.h"
#include "cli/session.h"
#include "cli/text.h"

static int json;

static const struct xf_cli_option options[] = {
    {"--json", NULL, NULL, "print {\"ids\":[…]}", XF_CLI_SWITCH, &json, 0, 0}, {0}};

static int print_ids(const struct xf_cli_ids *text)
{
  if (json) {
    cJSON *object = cJSON_CreateObject();
    return xf_cli_json_print(object, xf_cli_json_ids(object, "ids", text->ids, text->n));
  }
  for (size_t i = 0; i < text->n; i++) printf("%s%ld", i ? " " : "", (long)text->ids[i]);
  putchar('\n');
  return xf_cli_flush();
}

static int run(void)
{
  int code = xf_cli_text_check("tokenize");
  if (code) return code;
  const char *path = xf_cli_model_path();
  if (!path) return XF_CLI_FAILED;
  xf_error error = {0};
  xf_tokenizer *tokenizer;
  if (xf_tokenizer_open(path, &tokenizer, &error)) return xf_cli_error(&error);
  struct xf_cli_ids text;
  code = xf_cli_text_encode(tokenizer, &text);
  if (!code) code = print_ids(&text);
  xf_cli_ids_free(&text);
  xf_tokenizer_close(tokenizer);
  return code;
}

const struct xf_cli_command xf_cli_tokenize = {
    .name = "tokenize",
    .summary = "turn text into token ids",
    .description =
        "Prints the ids of a text. -m may also name a tokenizer.model, a tokenizer.json\n"
        "or a GGUF file with a vocabulary only.",
    .examples = "  exactflash tokenize -p \"Once upon a time\"\n"
                "  exactflash tokenize -m tinyllama --file story.txt --no-bos --json\n"
                "  echo hello | exactflash tokenize --file -\n",
    .tables = {xf_cli_text_options, xf_cli_model_options, options},
    .run = run};
