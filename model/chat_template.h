/* The chat template that comes with a model, and the format that it spells. */
#ifndef XF_MODEL_CHAT_TEMPLATE_H
#define XF_MODEL_CHAT_TEMPLATE_H

#include "exactflash/chat.h"

/* Reads the template of a model's folder or GGUF file; xf_free it. *out is NULL without one. */
xf_status xf_chat_template_read(const char *path, char **out, xf_error *error);

/* Recognises a format by the markers "<|…|>" that the template has between any two characters of
 * its text, and by what stands between role and text:
 *   zephyr   <|user|> and <|assistant|>, maybe <|system|> and <|endoftext|>; it names eos_token
 *   chatml   <|im_start|> and <|im_end|>, maybe <|endoftext|>
 *   llama-3  <|start_header_id|>, <|end_header_id|> and <|eot_id|>, maybe <|begin_of_text|>,
 *            <|end_of_text|>, <|python_tag|>, <|eom_id|>
 * Any other marker, a date in the text, or a rewriting of thoughts (<think>) is none of them.
 * 0: not recognised. */
xf_chat_format xf_chat_template_format(const char *text);

/* The system message that a ChatML template puts in front of a conversation without one: xf_free
 * it; NULL when out of memory, "" where there is none. */
char *xf_chat_template_system(const char *text);

#endif
