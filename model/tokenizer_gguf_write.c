/* A tokenizer as GGUF's keys tokenizer.ggml.… have it. */
#include <stdio.h>
#include <string.h>

#include "dispatch/error.h"
#include "dispatch/memory.h"
#include "model/file.h"
#include "model/tokenizer_file.h"

#define KEY(name) "tokenizer.ggml." name

enum { PAD = 24 }; /* "[PAD16777216]" */

struct tables {
  const struct xf_tokenizer *tokenizer;
  size_t n;
  char *text;                    /* what is spelled otherwise than the tokenizer has it */
  struct xf_gguf_string *tokens; /* [n] */
  struct xf_gguf_string *merges; /* [tokenizer->n_merges] */
  char *merge_text;
  int32_t *types; /* [n] */
  float *scores;  /* [n] */
};

/* On the byte level a NORMAL piece is spelled with letters for bytes, unless it stands for none. */
static bool is_coded(const struct xf_tokenizer *tokenizer, size_t id)
{
  const struct xf_piece *piece = &tokenizer->pieces[id];
  return tokenizer->rules.byte_level && piece->type == XF_PIECE_NORMAL &&
         xf_vocabulary_find(tokenizer, piece->spelling, piece->bytes) == (int32_t)id;
}

static bool allocate(struct tables *t)
{
  const struct xf_tokenizer *tokenizer = t->tokenizer;
  size_t text = 0, merges = 0;
  for (size_t i = 0; i < t->n; i++)
    text += i < tokenizer->n && tokenizer->pieces[i].bytes ? 2 * tokenizer->pieces[i].bytes : PAD;
  for (size_t i = 0; i < tokenizer->n_merges; i++)
    merges += 2 * (size_t)tokenizer->pieces[tokenizer->merges[i].id].bytes + 1;
  t->text = xf_alloc(text, 1);
  t->tokens = xf_alloc(t->n, sizeof *t->tokens);
  t->types = xf_alloc(t->n, sizeof *t->types);
  t->scores = xf_alloc_zeroed(t->n, sizeof *t->scores);
  t->merges = xf_alloc(tokenizer->n_merges, sizeof *t->merges);
  t->merge_text = xf_alloc(merges, 1);
  return t->text && t->tokens && t->types && t->scores && t->merges && t->merge_text;
}

static void free_tables(struct tables *t)
{
  xf_free(t->text);
  xf_free(t->tokens);
  xf_free(t->types);
  xf_free(t->scores);
  xf_free(t->merges);
  xf_free(t->merge_text);
}

/* Ids without a spelling, or behind the tokenizer's, are padding. */
static void fill_tokens(struct tables *t)
{
  const struct xf_tokenizer *tokenizer = t->tokenizer;
  char *text = t->text;
  for (size_t i = 0; i < t->n; i++) {
    const struct xf_piece *piece = i < tokenizer->n ? &tokenizer->pieces[i] : NULL;
    t->types[i] = piece ? (int32_t)piece->type : XF_PIECE_UNUSED;
    if (!piece || piece->bytes == 0) {
      t->tokens[i] = (struct xf_gguf_string){text, (size_t)snprintf(text, PAD, "[PAD%zu]", i)};
    } else if (is_coded(tokenizer, i)) {
      size_t bytes = xf_byte_level_encode(piece->spelling, piece->bytes, text);
      t->tokens[i] = (struct xf_gguf_string){text, bytes};
    } else {
      t->tokens[i] = (struct xf_gguf_string){piece->spelling, piece->bytes};
      continue;
    }
    text += t->tokens[i].bytes;
  }
}

/* "LEFT RIGHT" */
static void fill_merges(struct tables *t)
{
  char *text = t->merge_text;
  for (size_t i = 0; i < t->tokenizer->n_merges; i++) {
    const struct xf_merge *merge = &t->tokenizer->merges[i];
    struct xf_gguf_string left = t->tokens[merge->left], right = t->tokens[merge->right];
    size_t bytes = left.bytes + 1 + right.bytes;
    memcpy(text, left.text, left.bytes);
    text[left.bytes] = ' ';
    memcpy(text + left.bytes + 1, right.text, right.bytes);
    t->merges[i] = (struct xf_gguf_string){text, bytes};
    text += bytes;
  }
}

/* Readers that know scores only merge by them: what is merged first has the highest. */
static void fill_scores(struct tables *t)
{
  const struct xf_tokenizer *tokenizer = t->tokenizer;
  for (size_t i = 0; i < tokenizer->n; i++)
    if (tokenizer->by_score) t->scores[i] = tokenizer->pieces[i].score;
  for (size_t i = tokenizer->n_merges; i-- > 0;) t->scores[tokenizer->merges[i].id] = -(float)i;
}

static void add_id(struct xf_gguf_writer *writer, const char *key, int32_t id)
{
  if (id >= 0) xf_gguf_add_u32(writer, key, (uint32_t)id);
}

static void add_rules(const struct xf_tokenizer *tokenizer, struct xf_gguf_writer *writer)
{
  const struct xf_token_rules *rules = &tokenizer->rules;
  xf_gguf_add_string(writer, KEY("model"), rules->byte_level ? "gpt2" : "llama");
  xf_gguf_add_string(writer, KEY("pre"),
                     rules->byte_level ? xf_split_gguf_name(rules->split) : "default");
  if (!rules->byte_level) {
    xf_gguf_add_bool(writer, KEY("add_space_prefix"), rules->dummy_prefix);
    xf_gguf_add_bool(writer, XF_BY_SCORE_KEY, tokenizer->by_score);
  }
  add_id(writer, KEY("bos_token_id"), rules->bos);
  add_id(writer, KEY("eos_token_id"), rules->eos);
  xf_gguf_add_bool(writer, KEY("add_bos_token"), rules->adds_bos);
  xf_gguf_add_bool(writer, KEY("add_eos_token"), false);
  for (const struct xf_rule_key *rule = xf_rule_keys; rule->key; rule++)
    xf_gguf_add_bool(writer, rule->key, *(const bool *)((const char *)rules + rule->offset));
}

static void add_unknown(const struct tables *t, struct xf_gguf_writer *writer)
{
  for (size_t i = 0; i < t->n; i++)
    if (t->types[i] == XF_PIECE_UNKNOWN) {
      xf_gguf_add_u32(writer, KEY("unknown_token_id"), (uint32_t)i);
      return;
    }
}

xf_status xf_tokenizer_gguf_write(const struct xf_tokenizer *tokenizer, size_t n,
                                  struct xf_gguf_writer *writer, xf_error *error)
{
  struct tables t = {.tokenizer = tokenizer, .n = n};
  xf_status status = XF_OK;
  if (!allocate(&t)) {
    status = xf_fail(error, XF_E_MEMORY, "out of memory for %zu tokens", n);
  } else {
    fill_tokens(&t);
    fill_merges(&t);
    fill_scores(&t);
    add_rules(tokenizer, writer);
    xf_gguf_add_strings(writer, KEY("tokens"), t.tokens, n);
    xf_gguf_add_array(writer, KEY("token_type"), XF_GGUF_I32, t.types, n);
    if (!tokenizer->rules.byte_level)
      xf_gguf_add_array(writer, KEY("scores"), XF_GGUF_F32, t.scores, n);
    if (!tokenizer->by_score)
      xf_gguf_add_strings(writer, KEY("merges"), t.merges, tokenizer->n_merges);
    add_unknown(&t, writer);
  }
  free_tables(&t);
  return status;
}
