/* A conversation: its tokens, in the cache and in a list, and the files that it is kept in. */
#ifndef XF_CLI_CONVERSATION_H
#define XF_CLI_CONVERSATION_H

#include "cli/session.h"

struct xf_cli_conversation {
  const struct xf_cli_session *session;
  const xf_tokenizer *tokenizer;
  xf_chat *chat;
  xf_generator *generator;
  const char *system; /* the system message; "": none */
  size_t most;        /* tokens of one answer; 0: no limit */
  int32_t *ids;       /* [n] of [room]; malloc */
  size_t n, room;
  uint64_t seed;
  int cut; /* the last answer has no end token */
};

/* The functions return exit codes, failures reported; free in any case. */
int xf_cli_conversation_begin(struct xf_cli_conversation *conversation,
                              const struct xf_cli_session *session, const xf_tokenizer *tokenizer,
                              xf_chat_format format);
void xf_cli_conversation_free(struct xf_cli_conversation *conversation);

/* Says a line and prints the answer as it comes, until it ends or Ctrl-C stops it. A line that does
 * not fit, or that Ctrl-C stops while it is read, leaves the conversation as it was. */
int xf_cli_conversation_turn(struct xf_cli_conversation *conversation, const char *line,
                             size_t bytes);

int xf_cli_conversation_save(const struct xf_cli_conversation *conversation, const char *path);
/* Goes on with a saved one. A file that cannot be used leaves the conversation as it was. */
int xf_cli_conversation_load(struct xf_cli_conversation *conversation, const char *path);

#endif
