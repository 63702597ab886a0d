/* Messages to tokens. */
#include "exactflash/chat.h"

#include <stdbool.h>
#include <string.h>

#include "dispatch/error.h"
#include "dispatch/memory.h"
#include "model/chat_template.h"
#include "model/encode.h"
#include "model/file.h"

enum { MOST_TOKENS = 4 };

/* A message is open, role, close, text, end, behind; NULL: nothing there. */
struct layout {
  const char *name;
  const char *open, *close;                      /* control tokens around the role */
  const char *end;                               /* control token; NULL: EOS */
  const char *before_role, *after_role, *behind; /* plain text */
  bool always_bos, trims;
};

static const struct layout layouts[] = {
    [XF_CHAT_ZEPHYR] = {.name = "zephyr",
                        .before_role = "<|",
                        .after_role = "|>\n",
                        .behind = "\n"},
    [XF_CHAT_CHATML] = {.name = "chatml",
                        .open = "<|im_start|>",
                        .end = "<|im_end|>",
                        .before_role = "",
                        .after_role = "\n",
                        .behind = "\n"},
    [XF_CHAT_LLAMA3] = {.name = "llama-3",
                        .open = "<|start_header_id|>",
                        .close = "<|end_header_id|>",
                        .end = "<|eot_id|>",
                        .before_role = "",
                        .after_role = "\n\n",
                        .behind = "",
                        .always_bos = true,
                        .trims = true},
};
enum { FORMATS = sizeof layouts / sizeof *layouts };
#define FORMAT_NAMES "zephyr, chatml, llama-3"

/* A spelling that the tokenizer would read as a token even in plain text. */
struct marker {
  const char *text;
  size_t bytes;
};

struct xf_chat {
  const xf_tokenizer *tokenizer;
  const struct layout *layout;
  int32_t open, close, end; /* −1: the format has none */
  char *system;
  struct marker readable[MOST_TOKENS];
  size_t n_readable;
};

const char *xf_chat_format_name(xf_chat_format format)
{
  return (size_t)format < FORMATS ? layouts[format].name : NULL;
}

xf_status xf_chat_format_from_name(const char *name, xf_chat_format *out, xf_error *error)
{
  for (size_t i = 1; name && out && i < FORMATS; i++)
    if (strcmp(name, layouts[i].name) == 0) {
      *out = (xf_chat_format)i;
      return XF_OK;
    }
  return xf_fail(error, XF_E_ARGUMENT, "no chat format '%.100s'; there are " FORMAT_NAMES,
                 name ? name : "");
}

static xf_status recognise(xf_chat *chat, const char *path, xf_chat_format *format, xf_error *error)
{
  char *text;
  xf_status status = xf_chat_template_read(path, &text, error);
  if (status) return status;
  *format = text ? xf_chat_template_format(text) : 0;
  if (!text)
    status = xf_fail(error, XF_E_UNSUPPORTED,
                     "%s: has no chat template: a model for chat? Then choose " FORMAT_NAMES, path);
  else if (!*format)
    status = xf_fail(
        error, XF_E_UNSUPPORTED,
        "%s: its chat template is none of those that are supported; choose " FORMAT_NAMES, path);
  else if (!(chat->system = xf_chat_template_system(text)))
    status = xf_file_no_memory(error, path);
  xf_free(text);
  return status;
}

/* A special token by its spelling; spelling NULL: there is none. */
static xf_status find_token(xf_chat *chat, const char *spelling, int32_t *out, xf_error *error)
{
  *out = -1;
  if (!spelling) return XF_OK;
  int32_t id = -1;
  size_t bytes = strlen(spelling);
  if (xf_vocabulary_match(chat->tokenizer, spelling, bytes, XF_SPECIAL, &id) != bytes)
    return xf_fail(error, XF_E_UNSUPPORTED,
                   "chat format %s: the tokenizer has no special token %s; choose another one "
                   "of " FORMAT_NAMES,
                   chat->layout->name, spelling);
  if (chat->tokenizer->pieces[id].type == XF_PIECE_USER_DEFINED)
    chat->readable[chat->n_readable++] = (struct marker){spelling, bytes};
  *out = id;
  return XF_OK;
}

static xf_status find_tokens(xf_chat *chat, xf_error *error)
{
  const struct layout *layout = chat->layout;
  xf_status status = find_token(chat, layout->open, &chat->open, error);
  if (!status) status = find_token(chat, layout->close, &chat->close, error);
  if (!status) status = find_token(chat, layout->end, &chat->end, error);
  if (status) return status;
  if (!layout->end) chat->end = xf_tokenizer_eos(chat->tokenizer);
  if (chat->end < 0)
    return xf_fail(error, XF_E_UNSUPPORTED,
                   "chat format %s: the tokenizer has no EOS token, which ends its messages",
                   layout->name);
  if (layout->always_bos && xf_tokenizer_bos(chat->tokenizer) < 0)
    return xf_fail(error, XF_E_UNSUPPORTED,
                   "chat format %s: the tokenizer has no BOS token, with which it begins",
                   layout->name);
  return XF_OK;
}

xf_status xf_chat_create(const xf_tokenizer *tokenizer, const char *path, xf_chat_format format,
                         xf_chat **out, xf_error *error)
{
  if (out) *out = NULL;
  if (!tokenizer || !out || (!format && !path))
    return xf_fail(error, XF_E_ARGUMENT,
                   "xf_chat_create: tokenizer, out, and path or format must be given");
  if ((size_t)format >= FORMATS)
    return xf_fail(error, XF_E_ARGUMENT, "xf_chat_create: no format %d", (int)format);
  xf_chat *chat = xf_alloc_zeroed(1, sizeof *chat);
  if (!chat) return xf_fail(error, XF_E_MEMORY, "out of memory for a chat");
  chat->tokenizer = tokenizer;
  xf_status status = format ? XF_OK : recognise(chat, path, &format, error);
  if (!status) {
    chat->layout = &layouts[format];
    status = find_tokens(chat, error);
  }
  if (status)
    xf_chat_destroy(chat);
  else
    *out = chat;
  return status;
}

void xf_chat_destroy(xf_chat *chat)
{
  if (!chat) return;
  xf_free(chat->system);
  xf_free(chat);
}

xf_chat_format xf_chat_get_format(const xf_chat *chat)
{
  return (xf_chat_format)(chat->layout - layouts);
}

const char *xf_chat_default_system(const xf_chat *chat)
{
  return chat->system ? chat->system : "";
}

int32_t xf_chat_end_token(const xf_chat *chat)
{
  return chat->end;
}

/* The ids so far, and the plain text that has gathered since the last control token: it is encoded
 * as one text, as if the template's whole text had been tokenized. */
struct writer {
  const xf_chat *chat;
  struct xf_ids ids;
  enum xf_text_place place; /* of the text that gathers */
  char *text;
  size_t bytes;
  xf_error *error;
  xf_status status;
};

static void encode_part(struct writer *w, const char *text, size_t bytes)
{
  if (w->status || bytes == 0) return;
  w->status = xf_encode(w->chat->tokenizer, text, bytes, 0, w->place, &w->ids, w->error);
  w->place = XF_INSIDE_TEXT;
}

/* Whether a token that is read in plain text begins here. */
static bool is_readable(const xf_chat *chat, const char *text, size_t bytes)
{
  for (size_t i = 0; i < chat->n_readable; i++) {
    const struct marker *marker = &chat->readable[i];
    if (bytes >= marker->bytes && memcmp(text, marker->text, marker->bytes) == 0) return true;
  }
  return false;
}

/* Encodes what has gathered; cut behind the first byte of a token that would be read in it. */
static void put_text(struct writer *w)
{
  size_t from = 0;
  for (size_t i = 0; i < w->bytes; i++)
    if (is_readable(w->chat, w->text + i, w->bytes - i)) {
      encode_part(w, w->text + from, i + 1 - from);
      from = i + 1;
    }
  encode_part(w, w->text + from, w->bytes - from);
  w->bytes = 0;
}

static void put_control(struct writer *w, int32_t id)
{
  if (id < 0) return;
  put_text(w);
  xf_ids_push(&w->ids, id);
  w->place = XF_BEHIND_TOKEN;
}

static void gather(struct writer *w, const char *text, size_t bytes)
{
  if (bytes) memcpy(w->text + w->bytes, text, bytes);
  w->bytes += bytes;
}

static void gather_word(struct writer *w, const char *word)
{
  gather(w, word, strlen(word));
}

static void put_head(struct writer *w, xf_chat_role role)
{
  static const char *const roles[] = {"system", "user", "assistant"};
  const struct layout *layout = w->chat->layout;
  put_control(w, w->chat->open);
  gather_word(w, layout->before_role);
  gather_word(w, roles[role]);
  put_control(w, w->chat->close);
  gather_word(w, layout->after_role);
}

static bool is_space(char c)
{
  return c == ' ' || (c >= '\t' && c <= '\r');
}

static void put_message(struct writer *w, const xf_chat_message *message)
{
  const char *text = message->utf8;
  size_t bytes = message->bytes;
  bool trims = w->chat->layout->trims;
  for (; trims && bytes && is_space(text[0]); text++) bytes--;
  while (trims && bytes && is_space(text[bytes - 1])) bytes--;
  put_head(w, message->role);
  gather(w, text, bytes);
  put_control(w, w->chat->end);
  gather_word(w, w->chat->layout->behind);
}

/* The most text between two control tokens: less than all of it. */
static xf_status make_room(struct writer *w, const xf_chat_message *messages, size_t n)
{
  enum { FRAME = 64 }; /* of role and layout */
  size_t room = (size_t)2 * FRAME;
  for (size_t i = 0; i < n; i++) {
    if ((unsigned)messages[i].role > XF_CHAT_ASSISTANT || (messages[i].bytes && !messages[i].utf8))
      return xf_fail(w->error, XF_E_ARGUMENT, "xf_chat_encode: message %zu has no role or text", i);
    if (messages[i].bytes >= XF_TEXT_LIMIT || room >= XF_TEXT_LIMIT)
      return xf_fail(w->error, XF_E_ARGUMENT, "xf_chat_encode: 1 GiB of text or more");
    room += messages[i].bytes + FRAME;
  }
  w->text = xf_alloc(room, 1);
  return w->text ? XF_OK : xf_fail(w->error, XF_E_MEMORY, "out of memory for %zu messages", n);
}

xf_status xf_chat_encode(const xf_chat *chat, const xf_chat_message *messages, size_t n,
                         uint32_t flags, int32_t *ids, size_t capacity, size_t *n_ids,
                         xf_error *error)
{
  if (n_ids) *n_ids = 0;
  if (!chat || (n && !messages) || (capacity && !ids) || !n_ids)
    return xf_fail(error, XF_E_ARGUMENT,
                   "xf_chat_encode: chat, messages, ids and n_ids must not be NULL");
  if (flags & ~(uint32_t)(XF_CHAT_FIRST | XF_CHAT_CUT | XF_CHAT_REPLY))
    return xf_fail(error, XF_E_ARGUMENT, "xf_chat_encode: unknown flags 0x%X", flags);
  struct writer w = {.chat = chat,
                     .ids = {.ids = ids, .capacity = capacity, .lacking = -1},
                     .place = flags & XF_CHAT_FIRST ? XF_TEXT_START : XF_BEHIND_TOKEN,
                     .error = error};
  xf_status status = make_room(&w, messages, n);
  if (status) return status;
  const xf_tokenizer *tokenizer = chat->tokenizer;
  bool bos = chat->layout->always_bos || xf_tokenizer_adds_bos(tokenizer);
  if (flags & XF_CHAT_FIRST) {
    if (bos) xf_ids_push(&w.ids, xf_tokenizer_bos(tokenizer));
  } else {
    if (flags & XF_CHAT_CUT) xf_ids_push(&w.ids, chat->end);
    gather_word(&w, chat->layout->behind);
  }
  for (size_t i = 0; i < n; i++) put_message(&w, &messages[i]);
  if (flags & XF_CHAT_REPLY) put_head(&w, XF_CHAT_ASSISTANT);
  put_text(&w);
  xf_free(w.text);
  if (!w.status) *n_ids = w.ids.n;
  return w.status;
}
