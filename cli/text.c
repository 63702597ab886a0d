#include "cli/text.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "cli/file.h"
#include "cli/report.h"

static const char *prompt, *file;
static int no_bos, parse_special;

const struct xf_cli_option xf_cli_text_options[] = {
    {"-p", "--prompt", "TEXT", "the text", XF_CLI_TEXT, &prompt, 0, 0},
    {"--file", "-f", "FILE", "read the text from a file; -: standard input", XF_CLI_TEXT, &file, 0,
     0},
    {"--no-bos", NULL, NULL, "do not put the BOS token in front", XF_CLI_SWITCH, &no_bos, 0, 0},
    {"--parse-special", NULL, NULL, "read spelt-out control tokens (</s>) as tokens", XF_CLI_SWITCH,
     &parse_special, 0, 0},
    {0}};

int xf_cli_text_check(const char *command)
{
  if (prompt && file) return xf_cli_misuse(command, "give the text by -p or by --file, not both");
  if (!prompt && !file) return xf_cli_misuse(command, "give a text by -p TEXT or --file FILE");
  return XF_CLI_OK;
}

static int read_text(struct xf_cli_ids *out)
{
  if (file) return xf_cli_read_file(file, &out->text, &out->bytes);
  out->bytes = strlen(prompt);
  out->text = strdup(prompt);
  return out->text ? XF_CLI_OK : xf_cli_fail("out of memory for the text");
}

int xf_cli_encode(const xf_tokenizer *tokenizer, uint32_t flags, struct xf_cli_ids *out)
{
  xf_error error = {0};
  if (xf_tokenizer_encode(tokenizer, out->text, out->bytes, flags, NULL, 0, &out->n, &error))
    return xf_cli_error(&error);
  size_t capacity = out->n;
  out->ids = malloc((capacity + 1) * sizeof *out->ids);
  if (!out->ids) return xf_cli_fail("out of memory for %zu tokens", capacity);
  if (xf_tokenizer_encode(tokenizer, out->text, out->bytes, flags, out->ids, capacity, &out->n,
                          &error))
    return xf_cli_error(&error);
  return XF_CLI_OK;
}

int xf_cli_text_encode(const xf_tokenizer *tokenizer, struct xf_cli_ids *out)
{
  bool bos = !no_bos && xf_tokenizer_adds_bos(tokenizer);
  uint32_t flags = (bos ? XF_ENCODE_BOS : 0) | (parse_special ? XF_ENCODE_PARSE_SPECIAL : 0);
  *out = (struct xf_cli_ids){0};
  int code = read_text(out);
  return code ? code : xf_cli_encode(tokenizer, flags, out);
}

void xf_cli_ids_free(struct xf_cli_ids *ids)
{
  free(ids->text);
  free(ids->ids);
}
