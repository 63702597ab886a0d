/* Conversations: how messages become the tokens that a model was trained on, and files that a
 * conversation is kept in. */
#ifndef EXACTFLASH_CHAT_H
#define EXACTFLASH_CHAT_H

#include "exactflash/model.h"
#include "exactflash/tokenizer.h"

#ifdef __cplusplus
extern "C" {
#endif

/* [T] is a control token, \n a line break; the last line opens an answer.
 *   zephyr   <|ROLE|>\nTEXT[EOS]\n                 <|assistant|>\n
 *   chatml   [<|im_start|>]ROLE\nTEXT[<|im_end|>]\n   [<|im_start|>]assistant\n
 *   llama-3  [<|start_header_id|>]ROLE[<|end_header_id|>]\n\nTEXT[<|eot_id|>]
 *            [<|start_header_id|>]assistant[<|end_header_id|>]\n\n
 * In front of the first message: BOS where the tokenizer says so (xf_tokenizer_adds_bos); with
 * llama-3 always. llama-3 takes spaces and line breaks at both ends of TEXT away. */
typedef enum xf_chat_format { XF_CHAT_ZEPHYR = 1, XF_CHAT_CHATML, XF_CHAT_LLAMA3 } xf_chat_format;

/* "zephyr", "chatml", "llama-3"; NULL for other values. */
XF_API const char *xf_chat_format_name(xf_chat_format format);
/* XF_E_ARGUMENT for other names. */
XF_API xf_status xf_chat_format_from_name(const char *name, xf_chat_format *out, xf_error *error);

/* A chat format and the tokenizer that it is for. */
typedef struct xf_chat xf_chat;

/* The format is recognised in the model's chat template: of a folder, the file
 * chat_template.jinja, else the field chat_template of tokenizer_config.json; of a GGUF file,
 * tokenizer.chat_template. Templates are not run: one is recognised by the tokens that it spells,
 * which must be those of one format and no others. All else, no template included, is
 * XF_E_UNSUPPORTED: then the format must be chosen. format: 0, or the choice. The format's control
 * tokens must be in the tokenizer, which is borrowed. */
XF_API xf_status xf_chat_create(const xf_tokenizer *tokenizer, const char *path,
                                xf_chat_format format, xf_chat **out, xf_error *error);
XF_API void xf_chat_destroy(xf_chat *chat); /* NULL is allowed */

/* The format that was recognised or chosen. */
XF_API xf_chat_format xf_chat_get_format(const xf_chat *chat);
/* The system message that the template itself puts where a conversation begins without one; "":
 * none, or the format was chosen. */
XF_API const char *xf_chat_default_system(const xf_chat *chat);
/* The token that ends every message: an answer is over when the model gives it. */
XF_API int32_t xf_chat_end_token(const xf_chat *chat);

/* Who speaks. */
typedef enum xf_chat_role { XF_CHAT_SYSTEM, XF_CHAT_USER, XF_CHAT_ASSISTANT } xf_chat_role;

/* What one of them says, in bytes of UTF-8. */
typedef struct xf_chat_message {
  xf_chat_role role;
  const char *utf8;
  size_t bytes;
} xf_chat_message;

enum {
  XF_CHAT_FIRST = 1, /* the conversation begins here. Else the last token is an answer's end */
  XF_CHAT_CUT = 2,   /* not FIRST, and the answer was cut: its end token goes in front */
  XF_CHAT_REPLY = 4  /* open an answer at the end */
};

/* Encodes messages; the same two-call use as xf_tokenizer_encode. Nothing in a message's text
 * becomes a control token, nor one of the format's tokens: no text can end its own message. The
 * role lines of zephyr are plain text to the model itself, and no other can tell them from what a
 * user wrote. */
XF_API xf_status xf_chat_encode(const xf_chat *chat, const xf_chat_message *messages, size_t n,
                                uint32_t flags, int32_t *ids, size_t capacity, size_t *n_ids,
                                xf_error *error);

/* A conversation in a file: its tokens and what it takes to go on as if it had never stopped. K and
 * V are not kept: computed again from the tokens they have the same bits, for a thousandth of the
 * space; with another cache_type, attention or activations those that a model of these has after
 * the same tokens. The random numbers of the tokens to come follow from the seed and the tokens'
 * count. */
typedef struct xf_session {
  size_t struct_size; /* sizeof(xf_session) */
  int32_t *tokens;    /* [n_tokens] */
  size_t n_tokens;
  uint64_t seed;         /* xf_generate_options.seed */
  xf_chat_format format; /* 0: no chat */
  int cut;               /* 1: the last answer was cut (XF_CHAT_CUT) */
} xf_session;

/* Replaces the file as a whole: whatever happens meanwhile, it holds the old or the new session. A
 * link to the file stays a link; what is no regular file, or read-only, is not replaced.
 * XF_E_ARGUMENT where tokens are not in the model's vocabulary or there is no such format. */
XF_API xf_status xf_session_save(const char *path, const xf_model *model, const xf_session *session,
                                 xf_error *error);
/* out: struct_size is set. XF_E_FORMAT for a file that is cut off, damaged, of another version, of
 * another model or of another numerics version. On success xf_session_free is to be called; on
 * failure *out is empty. */
XF_API xf_status xf_session_load(const char *path, const xf_model *model, xf_session *out,
                                 xf_error *error);
XF_API void xf_session_free(xf_session *session); /* an empty one is allowed */

#ifdef __cplusplus
}
#endif
#endif
