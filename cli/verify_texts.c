/* verify flash and verify converted: the same prompts on two sides. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/interrupt.h"
#include "cli/progress.h"
#include "cli/report.h"
#include "cli/trial.h"
#include "cli/verify.h"

struct side {
  const char *path;
  xf_attention_kind attention;
  xf_model_info info; /* of the model, once it was open */
};

/* What one side made of a prompt. */
struct outcome {
  struct xf_cli_ids ids;
  float *prefill;  /* [ids.n, vocabulary] */
  float *decode;   /* [most, vocabulary]: behind each token of the first side */
  int32_t *tokens; /* [most]: the side's own */
};

static void free_outcomes(struct outcome *outcomes, size_t n)
{
  for (size_t i = 0; i < n; i++) {
    xf_cli_ids_free(&outcomes[i].ids);
    free(outcomes[i].prefill);
    free(outcomes[i].decode);
    free(outcomes[i].tokens);
  }
}

/* Behind the prompts, where there is to be a long one: the first prompt again and again, enough
 * that flash attention merges two blocks of keys. Within one block it has the bits of standard
 * attention.
 */
enum { LONG = 600 };

static size_t n_prompts(const struct xf_cli_tries *tries)
{
  return tries->prompts->n + tries->attentions;
}

static int encode(const struct xf_cli_session *s, const struct xf_cli_tries *tries, size_t prompt,
                  struct xf_cli_ids *ids)
{
  bool added = prompt == tries->prompts->n;
  int code = xf_cli_trial_encode(s, tries->prompts->texts[added ? 0 : prompt], ids);
  if (code || !added || ids->n >= LONG) return code;
  int32_t *longer = realloc(ids->ids, LONG * sizeof *longer);
  if (!longer) return xf_cli_fail("out of memory for %d tokens", LONG);
  ids->ids = longer;
  for (size_t i = ids->n; i < LONG; i++) longer[i] = longer[i - ids->n];
  ids->n = LONG;
  return XF_CLI_OK;
}

/* A cache for the prompt, in place of the session's. */
static bool renew_cache(struct xf_cli_session *s, size_t capacity, xf_error *error)
{
  xf_cache_destroy(s->cache);
  s->cache = NULL;
  return xf_cache_create(s->model, capacity, &s->cache, error) == XF_OK;
}

/* followed: the tokens to decode. */
static int try_prompt(struct xf_cli_session *s, size_t most, const int32_t *followed,
                      struct outcome *out)
{
  xf_error error = {0};
  size_t vocab = s->info.vocab_size;
  out->prefill = calloc(out->ids.n, vocab * sizeof *out->prefill);
  out->decode = calloc(most, vocab * sizeof *out->decode);
  if (!out->prefill || !out->decode)
    return xf_cli_fail("out of memory for the logits; verify fewer or shorter prompts");
  bool good = renew_cache(s, out->ids.n + most, &error) &&
              xf_cli_trial_forward(s, out->ids.ids, out->ids.n, out->prefill, &error);
  for (size_t i = 0; good && i < most; i++) {
    if (xf_cli_progress(NULL, "verifying", i, most))
      return XF_CLI_INTERRUPTED + xf_cli_interrupted();
    good = xf_cli_trial_forward(s, followed + i, 1, out->decode + i * vocab, &error);
  }
  xf_cli_progress_clear();
  return good ? XF_CLI_OK : xf_cli_fail("%s: %s", s->path, error.message);
}

/* other, first: the first side and its outcomes, or this one and its own. */
static int run_side(struct side *side, const struct side *other, const struct xf_cli_tries *tries,
                    const struct outcome *first, struct outcome *outcomes)
{
  xf_error error = {0};
  struct xf_cli_session session;
  int code = xf_cli_session_open_at(&session, side->path, 1, side->attention);
  if (!code && tries->attentions && xf_cli_exact_activations(&session.info)) {
    xf_cli_session_close(&session);
    code = xf_cli_session_open_at(&session, side->path, 1, side->attention);
  }
  side->info = session.info;
  if (!code && side->info.vocab_size != other->info.vocab_size)
    code = xf_cli_fail("%s has %u tokens and %s %u: they are not the same model", side->path,
                       side->info.vocab_size, other->path, other->info.vocab_size);
  for (size_t i = 0; !code && i < n_prompts(tries); i++) {
    struct outcome *out = &outcomes[i];
    out->tokens = calloc(tries->most, sizeof *out->tokens);
    if (!out->tokens) code = xf_cli_fail("out of memory for %zu tokens", tries->most);
    if (!code) code = encode(&session, tries, i, &out->ids);
    if (!code && !xf_cli_trial_generate(&session, &out->ids, tries->most, out->tokens, &error))
      code = xf_cli_error(&error);
    if (!code) code = try_prompt(&session, tries->most, first[i].tokens, out);
  }
  xf_cli_session_close(&session);
  return code;
}

/* One side after the other, so that there is one model in memory. Fills
 * n_prompts(tries) of each. */
static int run_sides(struct side sides[2], const struct xf_cli_tries *tries,
                     struct outcome *outcomes[2])
{
  int code = XF_CLI_OK;
  for (size_t i = 0; !code && i < 2; i++) {
    outcomes[i] = calloc(n_prompts(tries), sizeof *outcomes[i]);
    code = outcomes[i] ? run_side(&sides[i], &sides[0], tries, outcomes[0], outcomes[i])
                       : xf_cli_fail("out of memory for %zu prompts", n_prompts(tries));
  }
  return code;
}

static void free_sides(struct outcome *outcomes[2], const struct xf_cli_tries *tries)
{
  for (size_t i = 0; i < 2; i++) {
    if (outcomes[i]) free_outcomes(outcomes[i], n_prompts(tries));
    free(outcomes[i]);
  }
}

/* "prompt 1: prefill logits", in a buffer of its own until the next call. */
static const char *title(size_t prompt, const char *what)
{
  static char text[64];
  snprintf(text, sizeof text, "prompt %zu: %s", prompt + 1, what);
  return text;
}

static struct xf_cli_difference compare(const float *values, const float *reference, size_t n)
{
  struct xf_cli_difference difference = {0};
  xf_cli_difference_add(&difference, values, reference, n);
  return difference;
}

/* Tokens that both sides begin with. */
static size_t alike(const struct outcome *a, const struct outcome *b, size_t most)
{
  size_t n = 0;
  while (n < most && a->tokens[n] == b->tokens[n]) n++;
  return n;
}

static void check_text(struct xf_cli_checks *checks, size_t prompt, const struct outcome *a,
                       const struct outcome *b, size_t most)
{
  char why[96];
  size_t same = alike(a, b, most);
  snprintf(why, sizeof why, "only the first %zu of %zu tokens are the same", same, most);
  xf_cli_check(checks, same == most, title(prompt, "generated text"), why);
}

/* ---- flash ---- */

/* In a cache of fewer bits a rounding's difference can make a number fall to the other side, which
 * is a unit of its type (of i8: 1/127 of its row's greatest): two are the bound where they are
 * more.
 */
static double flash_bound(double bound)
{
  xf_type type = xf_cli_cache_type();
  return type == XF_F16    ? fmax(bound, 2 * 0x1p-10)
         : type == XF_BF16 ? fmax(bound, 2 * 0x1p-7)
         : type == XF_I8   ? fmax(bound, 2 / 127.0)
                           : bound;
}

int xf_cli_verify_flash(const struct xf_cli_tries *tries, struct xf_cli_checks *checks)
{
  struct outcome *outcomes[2] = {0};
  const char *path = xf_cli_model_path();
  if (!path) return XF_CLI_FAILED;
  struct side sides[2] = {{.path = path, .attention = XF_ATTENTION_STANDARD},
                          {.path = path, .attention = XF_ATTENTION_FLASH}};
  int code = run_sides(sides, tries, outcomes);
  size_t vocab = sides[0].info.vocab_size;
  for (size_t i = 0; !code && i < n_prompts(tries); i++) {
    const struct outcome *standard = &outcomes[0][i], *flash = &outcomes[1][i];
    struct xf_cli_difference prefill =
        compare(flash->prefill, standard->prefill, flash->ids.n * vocab);
    struct xf_cli_difference decode = compare(flash->decode, standard->decode, tries->most * vocab);
    xf_cli_check_largest(checks, title(i, "prefill logits"), &prefill,
                         flash_bound(XF_CLI_PREFILL_BOUND));
    xf_cli_check_largest(checks, title(i, "decode logits"), &decode,
                         flash_bound(XF_CLI_DECODE_BOUND));
    check_text(checks, i, standard, flash, tries->most);
  }
  free_sides(outcomes, tries);
  return code;
}

/* ---- converted ---- */

/* How far the logits of a file may be from its checkpoint's, as a part of their root mean square:
 * two to three times the most that was measured with trained models (docs/workflow.md). */
static const struct {
  const char *type;
  double bound;
} tolerances[] = {{"f16", 0.002}, {"bf16", 0.01}, {"i8_row", 0.06}, {"q8_0", 0.04},
                  {"q6_k", 0.06}, {"q4_k", 0.2},  {"q4_0", 0.45},   {"q4_1", 0.35},
                  {"q5_0", 0.15}, {"q5_1", 0.12}, {"q5_k", 0.1}};

/* 0: every weight of the checkpoint is exact in the file; below 0: there is no tolerance. */
static double tolerance(xf_type checkpoint, xf_type file)
{
  if (file == checkpoint || file == XF_F32) return 0;
  for (size_t i = 0; i < sizeof tolerances / sizeof *tolerances; i++)
    if (strcmp(tolerances[i].type, xf_type_name(file)) == 0) return tolerances[i].bound;
  return -1;
}

static void check_logits(struct xf_cli_checks *checks, const char *name,
                         const struct xf_cli_difference *difference, double bound, size_t vocab)
{
  if (bound > 0)
    xf_cli_check_relative(checks, name, difference, bound);
  else
    xf_cli_check_bits(checks, name, difference, vocab);
}

static void check_converted(struct xf_cli_checks *checks, size_t prompt, double bound,
                            const struct outcome *checkpoint, const struct outcome *file,
                            size_t most, size_t vocab)
{
  bool same = checkpoint->ids.n == file->ids.n &&
              memcmp(checkpoint->ids.ids, file->ids.ids, file->ids.n * sizeof(int32_t)) == 0;
  xf_cli_check(checks, same, title(prompt, "tokens"), "the tokenizers give different ids");
  if (!same) return;
  struct xf_cli_difference prefill =
      compare(file->prefill, checkpoint->prefill, file->ids.n * vocab);
  struct xf_cli_difference decode = compare(file->decode, checkpoint->decode, most * vocab);
  check_logits(checks, title(prompt, "prefill logits"), &prefill, bound, vocab);
  check_logits(checks, title(prompt, "decode logits"), &decode, bound, vocab);
  if (bound == 0) {
    check_text(checks, prompt, checkpoint, file, most);
    return;
  }
  char text[64];
  snprintf(text, sizeof text, "the first %zu of %zu tokens are the same",
           alike(checkpoint, file, most), most);
  xf_cli_checks_tell(checks, title(prompt, "generated text"), text);
}

int xf_cli_verify_converted(const char *converted, const char *checkpoint,
                            const struct xf_cli_tries *tries, struct xf_cli_checks *checks)
{
  struct outcome *outcomes[2] = {0};
  struct side sides[2] = {{.path = checkpoint, .attention = XF_ATTENTION_FLASH},
                          {.path = converted, .attention = XF_ATTENTION_FLASH}};
  int code = run_sides(sides, tries, outcomes);
  const xf_model_info *from = &sides[0].info, *to = &sides[1].info;
  double bound = code ? 0 : tolerance(from->weight_type, to->weight_type);
  if (!code && bound < 0)
    code = xf_cli_fail("%s: no tolerance is known for %s weights", converted,
                       xf_type_name(to->weight_type));
  if (!code) xf_cli_checks_tell(checks, "weights", xf_type_name(to->weight_type));
  for (size_t i = 0; !code && i < n_prompts(tries); i++)
    check_converted(checks, i, bound, &outcomes[0][i], &outcomes[1][i], tries->most,
                    to->vocab_size);
  free_sides(outcomes, tries);
  return code;
}
