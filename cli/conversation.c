#include "cli/conversation.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/interrupt.h"
#include "cli/report.h"
#include "cli/sampling.h"

static int begin_generator(struct xf_cli_conversation *c)
{
  xf_error error = {0};
  xf_generate_options options = xf_cli_sampling();
  options.seed = c->seed;
  if (xf_generator_create(c->session->model, c->session->cache, c->tokenizer, &options,
                          &c->generator, &error))
    return xf_cli_error(&error);
  return XF_CLI_OK;
}

int xf_cli_conversation_begin(struct xf_cli_conversation *c, const struct xf_cli_session *session,
                              const xf_tokenizer *tokenizer, xf_chat_format format)
{
  xf_error error = {0};
  *c = (struct xf_cli_conversation){
      .session = session, .tokenizer = tokenizer, .seed = xf_cli_sampling().seed};
  xf_status status = xf_chat_create(tokenizer, session->path, format, &c->chat, &error);
  if (status == XF_E_UNSUPPORTED) return xf_cli_fail("%s (--template NAME)", error.message);
  if (status) return xf_cli_error(&error);
  c->system = xf_chat_default_system(c->chat);
  return begin_generator(c);
}

void xf_cli_conversation_free(struct xf_cli_conversation *c)
{
  xf_generator_destroy(c->generator);
  xf_chat_destroy(c->chat);
  free(c->ids);
}

static int make_room(struct xf_cli_conversation *c, size_t more)
{
  if (c->n + more <= c->room) return XF_CLI_OK;
  size_t room = 2 * (c->n + more);
  int32_t *ids = realloc(c->ids, room * sizeof *ids);
  if (!ids) return xf_cli_fail("out of memory for %zu tokens", room);
  c->ids = ids;
  c->room = room;
  return XF_CLI_OK;
}

/* Encodes a line behind the conversation's ids; *added is the count. */
static int encode(struct xf_cli_conversation *c, const char *line, size_t bytes, size_t *added)
{
  xf_error error = {0};
  const xf_chat_message messages[] = {{XF_CHAT_SYSTEM, c->system, strlen(c->system)},
                                      {XF_CHAT_USER, line, bytes}};
  int with_system = c->n == 0 && c->system[0];
  const xf_chat_message *first = with_system ? messages : messages + 1;
  uint32_t flags = XF_CHAT_REPLY;
  if (c->n == 0) flags |= XF_CHAT_FIRST;
  if (c->cut) flags |= XF_CHAT_CUT;
  size_t count = 1 + (size_t)with_system;
  if (xf_chat_encode(c->chat, first, count, flags, NULL, 0, added, &error))
    return xf_cli_error(&error);
  int code = make_room(c, *added);
  if (!code && xf_chat_encode(c->chat, first, count, flags, c->ids + c->n, *added, added, &error))
    code = xf_cli_error(&error);
  return code;
}

static int print(const char *utf8, size_t bytes)
{
  fwrite(utf8, 1, bytes, stdout);
  return xf_cli_flush();
}

/* Token by token until the answer's end, -n, a full cache or a signal. */
static int answer(struct xf_cli_conversation *c)
{
  xf_error error = {0};
  const char *utf8;
  size_t bytes;
  int code = XF_CLI_OK, done = 0;
  c->cut = 1;
  for (size_t i = 0; !code && !done && c->cut && !xf_cli_interrupted(); i++) {
    int32_t token;
    if (c->most && i == c->most) break;
    code = make_room(c, 1);
    if (code) break;
    xf_status status = xf_generator_next(c->generator, &token, &done, &utf8, &bytes, &error);
    if (status == XF_E_CACHE_FULL) {
      xf_cli_note("stopped because the KV cache is full; a longer talk needs a larger --ctx");
      break;
    }
    if (status) return xf_cli_error(&error);
    c->ids[c->n++] = token;
    c->cut = token != xf_chat_end_token(c->chat);
    if (c->cut) code = print(utf8, bytes);
  }
  if (!code && xf_generator_flush(c->generator, &utf8, &bytes) == XF_OK) code = print(utf8, bytes);
  return code ? code : print("\n", 1);
}

int xf_cli_conversation_turn(struct xf_cli_conversation *c, const char *line, size_t bytes)
{
  xf_error error = {0};
  size_t added;
  int code = encode(c, line, bytes, &added);
  if (code) return code;
  if (xf_generator_prompt(c->generator, c->ids + c->n, added, &error)) return xf_cli_error(&error);
  c->n += added;
  return answer(c);
}

int xf_cli_conversation_save(const struct xf_cli_conversation *c, const char *path)
{
  xf_error error = {0};
  xf_session saved = {.struct_size = sizeof saved,
                      .tokens = c->ids,
                      .n_tokens = c->n,
                      .seed = c->seed,
                      .format = xf_chat_get_format(c->chat),
                      .cut = c->cut};
  if (xf_session_save(path, c->session->model, &saved, &error)) return xf_cli_error(&error);
  return XF_CLI_OK;
}

/* Whether a session can take the conversation's place. */
static int check(const struct xf_cli_conversation *c, const xf_session *saved, const char *path)
{
  if (saved->format != xf_chat_get_format(c->chat))
    return xf_cli_fail("%s: the session has the chat format %s; choose it with --template", path,
                       saved->format ? xf_chat_format_name(saved->format) : "none");
  size_t capacity = xf_cache_capacity(c->session->cache);
  if (saved->n_tokens > capacity)
    return xf_cli_fail("%s: the session has %zu tokens, the cache %zu positions: raise --ctx", path,
                       saved->n_tokens, capacity);
  return XF_CLI_OK;
}

static int replace(struct xf_cli_conversation *c, const xf_session *saved)
{
  xf_error error = {0};
  c->n = 0;
  int code = make_room(c, saved->n_tokens);
  xf_generator_destroy(c->generator);
  c->generator = NULL;
  xf_cache_truncate(c->session->cache, 0);
  c->seed = saved->seed;
  c->cut = 0;
  if (!code) code = begin_generator(c);
  if (code || saved->n_tokens == 0) return code;
  if (xf_generator_prompt(c->generator, saved->tokens, saved->n_tokens, &error))
    return xf_cli_error(&error);
  memcpy(c->ids, saved->tokens, saved->n_tokens * sizeof *c->ids);
  c->n = saved->n_tokens;
  c->cut = saved->cut;
  return XF_CLI_OK;
}

int xf_cli_conversation_load(struct xf_cli_conversation *c, const char *path)
{
  xf_error error = {0};
  xf_session saved = {.struct_size = sizeof saved};
  if (xf_session_load(path, c->session->model, &saved, &error)) return xf_cli_error(&error);
  int code = check(c, &saved, path);
  if (!code) code = replace(c, &saved);
  xf_session_free(&saved);
  return code;
}
