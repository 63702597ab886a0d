/* exactflash selftest: whether a model works here, with flash and with standard attention. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/checks.h"
#include "cli/commands.h"
#include "cli/report.h"
#include "cli/trial.h"

/* The tokens whose logits are looked at, and those in front of them: enough that flash attention
 * merges two blocks of keys. */
enum { PREFILL = 64, DECODE = 32, TAIL = PREFILL + DECODE, MOST_PAST = 480 };

static const char *prompt = "Once upon a time";
static uint64_t most = 50;
static int json;

static const struct xf_cli_option options[] = {
    {"-p", "--prompt", "TEXT", "what to continue", XF_CLI_TEXT, &prompt, 0, 0},
    {"-n", "--max-new-tokens", "N", "tokens to generate", XF_CLI_COUNT, &most, 1, 1048576},
    {"--json", NULL, NULL, "print one object with all checks", XF_CLI_SWITCH, &json, 0, 0},
    {0}};

/* EXACT: of 8- and 4-bit weights, which are compared with f32 activations. */
enum { EXACT = 1, STANDARD, KINDS };

/* What one kind of attention gave. */
struct outcome {
  const char *name;
  xf_attention_kind attention;
  float *whole;    /* [TAIL, vocabulary]: of all tokens at once */
  float *decode;   /* [DECODE, vocabulary]: the last ones one by one */
  int32_t *tokens; /* [most] */
};

/* "flash: prefill" */
static void check_kind_of(struct xf_cli_checks *checks, bool passed, const struct outcome *out,
                          const char *what, const char *why)
{
  char name[64];
  snprintf(name, sizeof name, "%s: %s", out->name, what);
  xf_cli_check(checks, passed, name, why);
}

/* From an empty cache: `past` ids without logits, then n with. */
static bool prefill(const struct xf_cli_session *s, const int32_t *ids, size_t past, size_t n,
                    float *out, xf_error *error)
{
  xf_cache_truncate(s->cache, 0);
  return xf_cli_trial_forward(s, ids, past, NULL, error) &&
         xf_cli_trial_forward(s, ids + past, n, out, error);
}

/* forward, prefill and decode on ids that mean nothing. false: one of them failed. */
static bool check_logits(const struct xf_cli_session *s, struct outcome *out,
                         struct xf_cli_checks *checks)
{
  xf_error error = {0};
  size_t vocab = s->info.vocab_size, longest = s->info.max_position_embeddings;
  size_t past = longest < TAIL ? 0 : longest - TAIL;
  if (past > MOST_PAST) past = MOST_PAST;
  int32_t ids[MOST_PAST + TAIL];
  for (size_t i = 0; i < past + TAIL; i++) ids[i] = (int32_t)((i * 2654435761u + 1) % vocab);
  bool good = prefill(s, ids, 0, 1, out->whole, &error);
  check_kind_of(checks, good, out, "forward of one token", error.message);
  if (!good) return false;
  good = prefill(s, ids, past, PREFILL, out->whole, &error);
  check_kind_of(checks, good, out, "prefill", error.message);
  for (size_t i = 0; good && i < DECODE; i++) {
    good = xf_cli_trial_forward(s, ids + past + PREFILL + i, 1, out->decode + i * vocab, &error);
    if (!good || i + 1 == DECODE) check_kind_of(checks, good, out, "decode", error.message);
  }
  if (!good || !prefill(s, ids, past, TAIL, out->whole, &error)) return false;
  bool same =
      memcmp(out->whole + PREFILL * vocab, out->decode, DECODE * vocab * sizeof *out->decode) == 0;
  check_kind_of(checks, same, out, "decode gives the bits of prefill", "they differ");
  return true;
}

static int check_kind(const struct xf_cli_session *s, struct outcome *out,
                      struct xf_cli_checks *checks)
{
  xf_error error = {0};
  size_t row = s->info.vocab_size * sizeof *out->whole;
  struct xf_cli_ids text = {0};
  out->whole = calloc(TAIL, row);
  out->decode = calloc(DECODE, row);
  out->tokens = calloc((size_t)most, sizeof *out->tokens);
  if (!out->whole || !out->decode || !out->tokens) return xf_cli_fail("out of memory");
  int code = xf_cli_trial_encode(s, prompt, &text);
  if (!code && check_logits(s, out, checks)) {
    bool good = xf_cli_trial_generate(s, &text, (size_t)most, out->tokens, &error);
    check_kind_of(checks, good, out, "text generation", error.message);
  }
  xf_cli_ids_free(&text);
  return code;
}

static void compare(const struct outcome *flash, const struct outcome *standard, size_t vocab,
                    struct xf_cli_checks *checks)
{
  struct xf_cli_difference prefilled = {0}, decoded = {0};
  xf_cli_difference_add(&prefilled, flash->whole, standard->whole, TAIL * vocab);
  xf_cli_difference_add(&decoded, flash->decode, standard->decode, DECODE * vocab);
  xf_cli_check_largest(checks, "prefill logits, flash against standard", &prefilled,
                       XF_CLI_PREFILL_BOUND);
  xf_cli_check_largest(checks, "decode logits, flash against standard", &decoded,
                       XF_CLI_DECODE_BOUND);
  bool same = memcmp(flash->tokens, standard->tokens, (size_t)most * sizeof *flash->tokens) == 0;
  xf_cli_check(checks, same, "generated text, flash against standard", "it differs");
}

/* One kind after the other, so that there is one model in memory. */
static int check_all(struct outcome outcomes[KINDS], struct xf_cli_checks *checks)
{
  int code = XF_CLI_OK;
  size_t vocab = 0, flash = 0;
  for (size_t i = 0; !code && !checks->failed && i < KINDS; i++) {
    struct xf_cli_session session;
    if (i == EXACT && flash != EXACT) continue;
    code = xf_cli_session_open_as(&session, MOST_PAST + TAIL, outcomes[i].attention);
    if (!code) code = check_kind(&session, &outcomes[i], checks);
    if (i == 0 && xf_cli_exact_activations(&session.info)) flash = EXACT;
    vocab = session.info.vocab_size;
    xf_cli_session_close(&session);
  }
  if (!code && !checks->failed) compare(&outcomes[flash], &outcomes[STANDARD], vocab, checks);
  return code;
}

static int run(void)
{
  struct outcome outcomes[KINDS] = {
      {.name = "flash", .attention = XF_ATTENTION_FLASH},
      [EXACT] = {.name = "flash, f32 activations", .attention = XF_ATTENTION_FLASH},
      [STANDARD] = {.name = "standard", .attention = XF_ATTENTION_STANDARD}};
  struct xf_cli_checks checks;
  xf_cli_checks_begin(&checks, json);
  int code = xf_cli_checks_end(&checks, check_all(outcomes, &checks));
  for (size_t i = 0; i < KINDS; i++) {
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
        "nearly the same logits and the same text; of 8- and 4-bit weights with f32 activations\n"
        "if --activations does not say otherwise. Prints PASS or FAIL for each check; the exit\n"
        "status is 0 if all passed, else 1.",
    .examples = "  exactflash selftest\n"
                "  exactflash selftest -m tinyllama --threads 4 --json\n",
    .tables = {options, xf_cli_model_options, xf_cli_machine_options + 1},
    .run = run};
