/* exactflash generate: continues a text. */
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cli/json.h"
#include "cli/report.h"
#include "cli/sampling.h"
#include "cli/session.h"
#include "cli/text.h"

static uint64_t most = 256, logprobs;
static int ignore_eos, echo, json;

enum { MOST_LOGPROBS = 100 };

static const struct xf_cli_option options[] = {
    {"-n", "--max-tokens", "N", "most tokens to generate", XF_CLI_COUNT, &most, 0, 2147483647},
    {"--ignore-eos", NULL, NULL, "go on behind the end of the text", XF_CLI_SWITCH, &ignore_eos, 0,
     0},
    {"--echo", NULL, NULL, "print the prompt in front", XF_CLI_SWITCH, &echo, 0, 0},
    {"--json", NULL, NULL, "print one object with text, tokens and timings", XF_CLI_SWITCH, &json,
     0, 0},
    {"--logprobs", NULL, "N", "with --json: log probabilities of each token and the N best",
     XF_CLI_COUNT, &logprobs, 1, MOST_LOGPROBS},
    {0}};

/* What came out, and when. */
struct story {
  int32_t *tokens; /* [n]; malloc */
  cJSON *logprobs; /* with --logprobs: an array of n objects */
  char *text;      /* [bytes], the generated text; malloc */
  size_t n, bytes, token_room, text_room, prompt_tokens, vocab;
  double load_s, prefill_s, first_s, last_s; /* first, last: seconds from the prompt to the token */
};

/* Makes room for `more` elements behind the n in *data. */
static bool grow(void **data, size_t *room, size_t n, size_t more, size_t size)
{
  if (n + more <= *room) return true;
  size_t wanted = 2 * (n + more);
  void *larger = realloc(*data, wanted * size);
  if (!larger) return false;
  *data = larger;
  *room = wanted;
  return true;
}

static int add_text(struct story *story, const char *utf8, size_t bytes)
{
  if (json) {
    void *text = story->text;
    if (!grow(&text, &story->text_room, story->bytes, bytes, 1))
      return xf_cli_fail("out of memory for the text");
    story->text = text;
    if (bytes) memcpy(story->text + story->bytes, utf8, bytes);
    story->bytes += bytes;
    return XF_CLI_OK;
  }
  fwrite(utf8, 1, bytes, stdout);
  return xf_cli_flush();
}

static int add_token(struct story *story, int32_t token)
{
  void *tokens = story->tokens;
  if (!grow(&tokens, &story->token_room, story->n, 1, sizeof *story->tokens))
    return xf_cli_fail("out of memory for the tokens");
  story->tokens = tokens;
  story->tokens[story->n++] = token;
  return XF_CLI_OK;
}

static bool add_logprob(cJSON *object, xf_token_logprob logprob)
{
  return object && xf_cli_json_number(object, "token", logprob.token) &&
         xf_cli_json_float(object, "logprob", logprob.logprob);
}

/* {"token": …, "logprob": …, "best": [{"token": …, "logprob": …}, …]} */
static int add_logprobs(struct story *story, xf_generator *generator)
{
  xf_error error = {0};
  xf_token_logprob chosen, best[MOST_LOGPROBS];
  size_t n = logprobs < story->vocab ? (size_t)logprobs : story->vocab;
  if (xf_generator_logprobs(generator, &chosen, best, n, &error)) return xf_cli_error(&error);
  cJSON *object = cJSON_CreateObject();
  bool complete = add_logprob(object, chosen);
  cJSON *array = complete ? cJSON_AddArrayToObject(object, "best") : NULL;
  complete = array != NULL;
  for (size_t i = 0; complete && i < n; i++) {
    cJSON *item = cJSON_CreateObject();
    complete = add_logprob(item, best[i]) && cJSON_AddItemToArray(array, item);
    if (!complete) cJSON_Delete(item);
  }
  if (!story->logprobs) story->logprobs = cJSON_CreateArray();
  if (complete && cJSON_AddItemToArray(story->logprobs, object)) return XF_CLI_OK;
  cJSON_Delete(object);
  return xf_cli_fail("out of memory for the log probabilities");
}

/* Token by token until -n, the answer's end, a full cache or Ctrl-C. */
static int continue_text(xf_generator *generator, struct story *story, double start)
{
  xf_error error = {0};
  const char *utf8;
  size_t bytes;
  int code = XF_CLI_OK, done = 0;
  while (!code && !done && story->n < most && !xf_cli_interrupted()) {
    int32_t token;
    xf_status status = xf_generator_next(generator, &token, &done, &utf8, &bytes, &error);
    if (status == XF_E_CACHE_FULL) {
      xf_cli_note("stopped because the KV cache is full; a longer text needs a larger --ctx");
      break;
    }
    if (status) return xf_cli_error(&error);
    story->last_s = xf_cli_seconds() - start;
    if (story->n == 0) story->first_s = story->last_s;
    code = add_token(story, token);
    if (!code && logprobs) code = add_logprobs(story, generator);
    if (!code) code = add_text(story, utf8, bytes);
  }
  if (!code && xf_generator_flush(generator, &utf8, &bytes) == XF_OK)
    code = add_text(story, utf8, bytes);
  return code;
}

/* Takes the log probabilities over. */
static bool json_logprobs(cJSON *object, struct story *s)
{
  if (!logprobs) return true;
  cJSON *array = s->logprobs ? s->logprobs : cJSON_CreateArray();
  s->logprobs = NULL;
  if (cJSON_AddItemToObject(object, "logprobs", array)) return true;
  cJSON_Delete(array);
  return false;
}

static int print_json(struct story *s)
{
  double decode_s = s->last_s - s->first_s;
  cJSON *o = cJSON_CreateObject();
  bool complete =
      xf_cli_json_text(o, "text", s->text, s->bytes) &&
      xf_cli_json_ids(o, "tokens", s->tokens, s->n) && json_logprobs(o, s) &&
      xf_cli_json_number(o, "prompt_tokens", (double)s->prompt_tokens) &&
      xf_cli_json_number(o, "load_s", s->load_s) &&
      xf_cli_json_number(o, "prefill_tokens_per_s", (double)s->prompt_tokens / s->prefill_s) &&
      xf_cli_json_number(o, "decode_tokens_per_s",
                         s->n > 1 ? (double)(s->n - 1) / decode_s : (double)NAN) &&
      xf_cli_json_number(o, "time_to_first_token_s", s->n ? s->first_s : (double)NAN) &&
      xf_cli_json_number(o, "peak_rss_bytes", xf_cli_peak_rss_bytes());
  return xf_cli_json_print(o, complete);
}

static int print_end(struct story *story)
{
  if (json) return print_json(story);
  putchar('\n');
  return xf_cli_flush();
}

static int tell(xf_generator *generator, const struct xf_cli_ids *prompt, struct story *story)
{
  xf_error error = {0};
  if (prompt->n == 0) return xf_cli_fail("the prompt is empty; give a text, or leave out --no-bos");
  double start = xf_cli_seconds();
  story->prompt_tokens = prompt->n;
  if (xf_generator_prompt(generator, prompt->ids, prompt->n, &error)) return xf_cli_error(&error);
  story->prefill_s = xf_cli_seconds() - start;
  if (echo && !json) fwrite(prompt->text, 1, prompt->bytes, stdout);
  int code = continue_text(generator, story, start);
  if (code == XF_CLI_OK) code = print_end(story);
  if (code == XF_CLI_OK && xf_cli_interrupted()) code = XF_CLI_INTERRUPTED + xf_cli_interrupted();
  return code;
}

static int with_tokenizer(const struct xf_cli_session *s, const xf_tokenizer *tokenizer,
                          double load_s)
{
  xf_error error = {0};
  xf_generate_options generate = xf_cli_sampling();
  generate.ignore_eos = ignore_eos;
  xf_generator *generator;
  if (xf_generator_create(s->model, s->cache, tokenizer, &generate, &generator, &error))
    return xf_cli_error(&error);
  struct xf_cli_ids prompt;
  struct story story = {.load_s = load_s, .vocab = s->info.vocab_size};
  int code = xf_cli_text_encode(tokenizer, &prompt);
  if (!code) code = tell(generator, &prompt, &story);
  cJSON_Delete(story.logprobs);
  free(story.tokens);
  free(story.text);
  xf_cli_ids_free(&prompt);
  xf_generator_destroy(generator);
  return code;
}

static int run(void)
{
  int code = xf_cli_text_check("generate");
  if (!code) code = xf_cli_sampling_check("generate");
  if (!code && logprobs && !json) code = xf_cli_misuse("generate", "--logprobs needs --json");
  if (code) return code;
  double start = xf_cli_seconds();
  struct xf_cli_session session;
  code = xf_cli_session_open(&session);
  if (!code) {
    xf_error error = {0};
    xf_tokenizer *tokenizer;
    if (xf_tokenizer_open(session.path, &tokenizer, &error))
      code = xf_cli_error(&error);
    else
      code = with_tokenizer(&session, tokenizer, xf_cli_seconds() - start);
    if (!error.status) xf_tokenizer_close(tokenizer);
  }
  xf_cli_session_close(&session);
  return code;
}

const struct xf_cli_command xf_cli_generate = {
    .name = "generate",
    .summary = "continue a text",
    .description =
        "Continues a text and prints the continuation while it comes. The same command gives the\n"
        "same text on every machine, whatever the instruction set and the number of threads.\n"
        "It stops at the end-of-text token, at a --stop text, after -n tokens, or when the cache\n"
        "(--ctx) is full. Order of the cuts: --logit_bias, penalties, --temp, --top_k, --typical,\n"
        "--top_p, --min_p.",
    .examples = "  exactflash generate -p \"Once upon a time\" --echo\n"
                "  exactflash generate -p \"Once upon a time\" --seed 7 --temp 0.7 --top_p 0.9\n"
                "  exactflash generate -m tinyllama --file prompt.txt -n 100 --temp 0 --json\n",
    .tables = {xf_cli_text_options, options, xf_cli_sampling_options, xf_cli_model_options,
               xf_cli_run_options, xf_cli_machine_options},
    .run = run};
