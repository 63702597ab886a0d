/* exactflash perplexity: how well a model foretells a text. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli/commands.h"
#include "cli/file.h"
#include "cli/interrupt.h"
#include "cli/json.h"
#include "cli/logprob.h"
#include "cli/progress.h"
#include "cli/report.h"
#include "cli/session.h"
#include "cli/text.h"

enum { LOGIT_BYTES = 64 << 20 }; /* most memory for logits */

static const char *file;
static uint64_t window = 512;
static int json;

static const struct xf_cli_option options[] = {
    {"--file", "-f", "FILE", "the text; -: standard input", XF_CLI_TEXT, &file, 0, 0},
    {"--ctx", "-c", "N", "tokens in a window", XF_CLI_COUNT, &window, 3, 16777216},
    {"--json", NULL, NULL, "print one object with perplexity and tokens", XF_CLI_SWITCH, &json, 0,
     0},
    {0}};

/* Rows of logits at a time; sum and count of the scored tokens' log-probabilities. */
struct score {
  float *logits; /* [rows, vocabulary] */
  size_t rows, tokens;
  double sum;
};

static size_t smaller(size_t a, size_t b)
{
  return a < b ? a : b;
}

/* Runs ids[0 … n), and scores ids[from … n] by the logits in front of each. */
static int score_window(const struct xf_cli_session *s, const int32_t *ids, size_t n, size_t from,
                        struct score *score)
{
  xf_error error = {0};
  size_t vocab = s->info.vocab_size;
  xf_cache_truncate(s->cache, 0);
  for (size_t done = 0, rows; done < n; done += rows) {
    bool scored = done >= from - 1;
    rows = scored ? smaller(score->rows, n - done) : smaller(xf_cli_chunk(), from - 1 - done);
    xf_sequence sequence = {.cache = s->cache,
                            .tokens = ids + done,
                            .n_tokens = rows,
                            .logits = scored ? XF_LOGITS_ALL : XF_LOGITS_NONE,
                            .out = scored ? score->logits : NULL};
    if (xf_forward(s->model, &sequence, 1, &error)) return xf_cli_error(&error);
    for (size_t i = 0; scored && i < rows; i++) {
      size_t target = (size_t)ids[done + i + 1];
      score->sum += xf_cli_logprob(score->logits + i * vocab, vocab, target);
      score->tokens++;
    }
  }
  return XF_CLI_OK;
}

static int print(const struct score *score, size_t windows)
{
  double perplexity = xf_cli_exp(-score->sum / (double)score->tokens);
  if (!isfinite(score->sum))
    return xf_cli_fail("the model's logits are not finite; it has no perplexity on this text");
  if (!json) {
    printf("perplexity %.6f: %zu tokens scored in %zu windows of %zu\n", perplexity, score->tokens,
           windows, (size_t)window);
    return xf_cli_flush();
  }
  cJSON *o = cJSON_CreateObject();
  bool complete = xf_cli_json_number(o, "perplexity", perplexity) &&
                  xf_cli_json_number(o, "tokens", (double)score->tokens);
  return xf_cli_json_print(o, complete);
}

/* bos: −1: windows keep their first token. */
static int score_text(const struct xf_cli_session *s, int32_t bos, struct xf_cli_ids *text)
{
  size_t n = (size_t)window, windows = text->n / n, vocab = s->info.vocab_size;
  if (windows == 0)
    return xf_cli_fail("the text has %zu tokens, less than one window of %zu; lower --ctx", text->n,
                       n);
  for (size_t i = 0; i < text->n; i++)
    if ((size_t)text->ids[i] >= vocab)
      return xf_cli_fail("%s: its tokenizer gives the id %ld, the model knows ids below %zu",
                         s->path, (long)text->ids[i], vocab);
  size_t fit = LOGIT_BYTES / sizeof(float) / vocab;
  struct score score = {.rows = smaller(smaller(xf_cli_chunk(), n), fit ? fit : 1)};
  score.logits = calloc(score.rows, vocab * sizeof *score.logits);
  int code = score.logits ? XF_CLI_OK : xf_cli_fail("out of memory for the logits");
  for (size_t w = 0; !code && w < windows; w++) {
    int32_t *ids = text->ids + w * n;
    if (bos >= 0) ids[0] = bos;
    if (xf_cli_progress(NULL, "scoring the text", w, windows))
      code = XF_CLI_INTERRUPTED + xf_cli_interrupted();
    else
      code = score_window(s, ids, n - 1, n / 2 + 1, &score);
  }
  xf_cli_progress_clear();
  if (!code) code = print(&score, windows);
  free(score.logits);
  return code;
}

static int with_text(const struct xf_cli_session *s, struct xf_cli_ids *text)
{
  xf_error error = {0};
  xf_tokenizer *tokenizer;
  if (xf_tokenizer_open(s->path, &tokenizer, &error)) return xf_cli_error(&error);
  bool adds_bos = xf_tokenizer_adds_bos(tokenizer);
  int32_t bos = adds_bos ? xf_tokenizer_bos(tokenizer) : -1;
  int code = xf_cli_encode(tokenizer, adds_bos ? XF_ENCODE_BOS : 0, text);
  if (!code) code = score_text(s, bos, text);
  xf_tokenizer_close(tokenizer);
  return code;
}

static int run(void)
{
  if (!file) return xf_cli_misuse("perplexity", "name the text by --file FILE");
  struct xf_cli_ids text = {0};
  int code = xf_cli_read_file(file, &text.text, &text.bytes);
  if (!code) {
    struct xf_cli_session session;
    code = xf_cli_session_open_as(&session, (size_t)window, xf_cli_attention());
    if (!code) code = with_text(&session, &text);
    xf_cli_session_close(&session);
  }
  xf_cli_ids_free(&text);
  return code;
}

const struct xf_cli_command xf_cli_perplexity = {
    .name = "perplexity",
    .summary = "measure how well a model foretells a text",
    .description =
        "Prints exp(-mean log-probability) of the tokens of a text. BOS and the text's ids are "
        "cut\n"
        "into whole windows of --ctx tokens; the first token of each is replaced by BOS (where "
        "the\n"
        "model uses one), and the tokens at positions N/2 + 1 to N - 1 are scored. The result is\n"
        "the same to the last bit on every machine.",
    .examples = "  exactflash perplexity --file book.txt\n"
                "  exactflash perplexity -m tinyllama -f book.txt --ctx 2048 --json\n",
    .tables = {options, xf_cli_model_options, xf_cli_run_options + 1, xf_cli_machine_options},
    .run = run};
