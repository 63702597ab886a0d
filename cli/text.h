/* The text that a command works on: -p, --file, --no-bos, --parse-special. */
#ifndef XF_CLI_TEXT_H
#define XF_CLI_TEXT_H

#include <stddef.h>

#include "cli/options.h"
#include "exactflash/tokenizer.h"

extern const struct xf_cli_option xf_cli_text_options[];

struct xf_cli_ids {
  char *text; /* what was read or given, not NUL-terminated; malloc */
  size_t bytes;
  int32_t *ids; /* malloc */
  size_t n;
};

/* Whether exactly one source of text was given; an exit code. To be asked before slow work. */
int xf_cli_text_check(const char *command);
/* Reads the text and encodes it. Returns an exit code, failures reported; free in any case. */
int xf_cli_text_encode(const xf_tokenizer *tokenizer, struct xf_cli_ids *out);
/* The second half of it, for out->text with xf_tokenizer_encode's flags. */
int xf_cli_encode(const xf_tokenizer *tokenizer, uint32_t flags, struct xf_cli_ids *out);
void xf_cli_ids_free(struct xf_cli_ids *ids);

#endif
