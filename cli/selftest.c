/* exactflash selftest: whether a model works here, with flash and with standard attention. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/json.h"
#include "cli/progress.h"
#include "cli/report.h"
#include "cli/session.h"
#include "cli/text.h"

/* The tokens whose logits are looked at, and those in front of them: enough that flash attention
 * merges two blocks of keys. */
enum { PREFILL = 64, DECODE = 32, TAIL = PREFILL + DECODE, MOST_PAST = 480 };

/* Bounds for the largest difference between flash and standard attention, in units of the logits'
 * root mean square where that is above 1: roundings grow with the logits. */
#define PREFILL_BOUND 3e-5
#define DECODE_BOUND  1e-4

static const char *prompt = "Once upon a time";
static uint64_t most = 50;
static int json;

static const struct xf_cli_option options[] = {
    {"-p", "--prompt", "TEXT", "what to continue", XF_CLI_TEXT, &prompt, 0, 0},
    {"-n", "--max-new-tokens", "N", "tokens to generate", XF_CLI_COUNT, &most, 1, 1048576},
    {"--json", NULL, NULL, "print one object with all checks", XF_CLI_SWITCH, &json, 0, 0},
    {0}};

/* What one kind of attention gave. */
struct outcome {
  const char *name;
  float *whole;  /* [TAIL, vocabulary]: of all tokens at once */
  float *decode; /* [DECODE, vocabulary]: the last ones one by one */
  int32_t *tokens;
  size_t n_tokens;
};

struct report {
  cJSON *checks; /* NULL without --json */
  bool complete; /* false: out of memory */
  size_t failed;
};

/* ---- the lines ---- */

static cJSON *begin_check(struct report *report, bool passed, const char *name)
{
  cJSON *o = json ? cJSON_CreateObject() : NULL;
  report->failed += !passed;
  if (json)
    report->complete = report->complete && cJSON_AddItemToArray(report->checks, o) &&
                       xf_cli_json_word(o, "check", name) &&
                       cJSON_AddBoolToObject(o, "passed", passed);
  else
    printf("%s  %s", passed ? "PASS" : "FAIL", name);
  return o;
}

static void add_check(struct report *report, bool passed, const char *kind, const char *what,
                      const char *why)
{
  char name[64];
  snprintf(name, sizeof name, "%s%s%s", kind, *kind ? ": " : "", what);
  cJSON *o = begin_check(report, passed, name);
  if (!json)
    printf("%s%s\n", passed ? "" : ": ", passed ? "" : why);
  else if (!passed)
    report->complete = report->complete && xf_cli_json_word(o, "why", why);
}

static void add_comparison(struct report *report, const char *name, const float *a, const float *b,
                           size_t n, double bound)
{
  double largest = 0, sum = 0, squares = 0;
  for (size_t i = 0; i < n; i++) {
    double difference = fabs((double)a[i] - (double)b[i]);
    if (!(difference <= largest)) largest = difference; /* NaN too */
    sum += difference;
    squares += (double)b[i] * (double)b[i];
  }
  bound *= fmax(1, sqrt(squares / (double)n));
  cJSON *o = begin_check(report, largest < bound, name);
  if (!json) {
    printf(": max %.3g, mean %.3g; bound %.3g\n", largest, sum / (double)n, bound);
    return;
  }
  report->complete = report->complete && xf_cli_json_number(o, "max_difference", largest) &&
                     xf_cli_json_number(o, "mean_difference", sum / (double)n) &&
                     xf_cli_json_number(o, "bound", bound);
}

static bool all_finite(const float *values, size_t n)
{
  bool finite = true;
  for (size_t i = 0; i < n; i++) finite &= isfinite(values[i]) != 0;
  return finite;
}

/* ---- the work ---- */

/* Runs n ids behind the cache's positions; out NULL: without logits. */
static bool forward(const struct xf_cli_session *s, const int32_t *ids, size_t n, float *out,
                    xf_error *error)
{
  xf_sequence sequence = {.cache = s->cache,
                          .tokens = ids,
                          .n_tokens = n,
                          .logits = out ? XF_LOGITS_ALL : XF_LOGITS_NONE,
                          .out = out};
  if (n > 0 && xf_forward(s->model, &sequence, 1, error)) return false;
  if (!out || all_finite(out, n * s->info.vocab_size)) return true;
  snprintf(error->message, sizeof error->message, "logits are not finite");
  return false;
}

/* From an empty cache: `past` ids without logits, then n with. */
static bool prefill(const struct xf_cli_session *s, const int32_t *ids, size_t past, size_t n,
                    float *out, xf_error *error)
{
  xf_cache_truncate(s->cache, 0);
  return forward(s, ids, past, NULL, error) && forward(s, ids + past, n, out, error);
}

/* forward, prefill and decode on ids that mean nothing. false: one of them failed. */
static bool check_logits(const struct xf_cli_session *s, struct outcome *out, struct report *report)
{
  xf_error error = {0};
  size_t vocab = s->info.vocab_size, longest = s->info.max_position_embeddings;
  size_t past = longest < TAIL ? 0 : longest - TAIL;
  if (past > MOST_PAST) past = MOST_PAST;
  int32_t ids[MOST_PAST + TAIL];
  for (size_t i = 0; i < past + TAIL; i++) ids[i] = (int32_t)((i * 2654435761u + 1) % vocab);
  bool good = prefill(s, ids, 0, 1, out->whole, &error);
  add_check(report, good, out->name, "forward of one token", error.message);
  if (!good) return false;
  good = prefill(s, ids, past, PREFILL, out->whole, &error);
  add_check(report, good, out->name, "prefill", error.message);
  for (size_t i = 0; good && i < DECODE; i++) {
    good = forward(s, ids + past + PREFILL + i, 1, out->decode + i * vocab, &error);
    if (!good || i + 1 == DECODE) add_check(report, good, out->name, "decode", error.message);
  }
  if (!good || !prefill(s, ids, past, TAIL, out->whole, &error)) return false;
  bool same =
      memcmp(out->whole + PREFILL * vocab, out->decode, DECODE * vocab * sizeof *out->decode) == 0;
  add_check(report, same, out->name, "decode gives the bits of prefill", "they differ");
  return true;
}

/* Greedily, whatever EOS says. */
static bool generate(const struct xf_cli_session *s, const struct xf_cli_ids *text,
                     struct outcome *out, xf_error *error)
{
  xf_cache *cache = NULL;
  xf_generator *generator = NULL;
  xf_generate_options greedy = {.struct_size = sizeof greedy, .ignore_eos = 1};
  xf_status status = xf_cache_create(s->model, text->n + (size_t)most, &cache, error);
  if (!status) status = xf_generator_create(s->model, cache, NULL, &greedy, &generator, error);
  if (!status) status = xf_generator_prompt(generator, text->ids, text->n, error);
  while (!status && out->n_tokens < most) {
    int done;
    status = xf_generator_next(generator, &out->tokens[out->n_tokens], &done, NULL, NULL, error);
    if (!status) out->n_tokens++;
  }
  xf_generator_destroy(generator);
  xf_cache_destroy(cache);
  return status == XF_OK;
}

/* The prompt's ids; a model without a tokenizer continues its token 1. */
static int encode_prompt(const struct xf_cli_session *s, struct xf_cli_ids *text)
{
  xf_error error = {0};
  xf_tokenizer *tokenizer;
  *text = (struct xf_cli_ids){.text = strdup(prompt), .bytes = strlen(prompt)};
  if (!text->text) return xf_cli_fail("out of memory for the prompt");
  if (xf_tokenizer_open(s->path, &tokenizer, &error) == XF_OK) {
    uint32_t flags = xf_tokenizer_adds_bos(tokenizer) ? XF_ENCODE_BOS : 0;
    int code = xf_cli_encode(tokenizer, flags, text);
    xf_tokenizer_close(tokenizer);
    if (code || text->n) return code;
  }
  free(text->ids);
  text->ids = malloc(sizeof *text->ids);
  if (!text->ids) return xf_cli_fail("out of memory for the prompt");
  text->ids[0] = 1 % (int32_t)s->info.vocab_size;
  text->n = 1;
  return XF_CLI_OK;
}

static int check_kind(const struct xf_cli_session *s, struct outcome *out, struct report *report)
{
  xf_error error = {0};
  size_t row = s->info.vocab_size * sizeof *out->whole;
  struct xf_cli_ids text = {0};
  out->whole = calloc(TAIL, row);
  out->decode = calloc(DECODE, row);
  out->tokens = calloc((size_t)most, sizeof *out->tokens);
  if (!out->whole || !out->decode || !out->tokens) return xf_cli_fail("out of memory");
  int code = encode_prompt(s, &text);
  if (!code && check_logits(s, out, report)) {
    bool good = generate(s, &text, out, &error);
    add_check(report, good, out->name, "text generation", error.message);
  }
  xf_cli_ids_free(&text);
  return code;
}

static void compare(const struct outcome *flash, const struct outcome *standard, size_t vocab,
                    struct report *report)
{
  add_comparison(report, "prefill logits, flash against standard", flash->whole, standard->whole,
                 TAIL * vocab, PREFILL_BOUND);
  add_comparison(report, "decode logits, flash against standard", flash->decode, standard->decode,
                 DECODE * vocab, DECODE_BOUND);
  bool same = flash->n_tokens == standard->n_tokens &&
              memcmp(flash->tokens, standard->tokens, flash->n_tokens * sizeof *flash->tokens) == 0;
  add_check(report, same, "", "generated text, flash against standard", "it differs");
}

/* One kind after the other, so that there is one model in memory. */
static int check_all(struct outcome outcomes[2], struct report *report)
{
  static const xf_attention_kind kinds[] = {XF_ATTENTION_FLASH, XF_ATTENTION_STANDARD};
  int code = XF_CLI_OK;
  size_t vocab = 0;
  for (size_t i = 0; !code && !report->failed && i < 2; i++) {
    struct xf_cli_session session;
    code = xf_cli_session_open_as(&session, MOST_PAST + TAIL, kinds[i]);
    if (!code) code = check_kind(&session, &outcomes[i], report);
    vocab = session.info.vocab_size;
    xf_cli_session_close(&session);
  }
  if (!code && !report->failed) compare(&outcomes[0], &outcomes[1], vocab, report);
  return code;
}

static int print_end(struct report *report)
{
  bool passed = report->failed == 0;
  if (!json) {
    printf("%s\n", passed ? "PASS" : "FAIL");
    return xf_cli_flush();
  }
  cJSON *o = cJSON_CreateObject();
  bool complete = report->complete && cJSON_AddBoolToObject(o, "passed", passed) &&
                  cJSON_AddItemToObject(o, "checks", report->checks);
  if (complete) report->checks = NULL;
  return xf_cli_json_print(o, complete);
}

static int run(void)
{
  struct outcome outcomes[2] = {{.name = "flash"}, {.name = "standard"}};
  struct report report = {.checks = json ? cJSON_CreateArray() : NULL, .complete = true};
  int code = check_all(outcomes, &report);
  if (!code) code = print_end(&report);
  if (!code && report.failed) code = XF_CLI_FAILED;
  cJSON_Delete(report.checks);
  for (size_t i = 0; i < 2; i++) {
    free(outcomes[i].whole);
    free(outcomes[i].decode);
    free(outcomes[i].tokens);
  }
  return code;
}

const struct xf_cli_command xf_cli_selftest = {
    .name = "selftest",
    .summary = "check that a model works on this machine",
    .description =
        "Runs forward, prefill, decode and text generation with flash and with standard attention\n"
        "and compares them: decode must give the bits of prefill, flash and standard attention\n"
        "nearly the same logits and the same text. Prints PASS or FAIL for each check; the exit\n"
        "status is 0 if all passed, else 1.",
    .examples = "  exactflash selftest\n"
                "  exactflash selftest -m tinyllama --threads 4 --json\n",
    .tables = {options, xf_cli_model_options, xf_cli_machine_options},
    .run = run};
