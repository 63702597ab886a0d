/* exactflash bench: tokens a second, beside what the machine can do at that moment. */
#include <stdio.h>
#include <stdlib.h>

#include "bench/arena.h"
#include "bench/measure.h"
#include "cli/bench_memory.h"
#include "cli/bench_tune.h"
#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cli/json.h"
#include "cli/progress.h"
#include "cli/report.h"
#include "cli/session.h"

enum { MOST_TOKENS = 1 << 20, MEMORY = 1 /* of operand's words */ };

static uint64_t prompt = 512, generate = 64, repetitions = 5;
static int json, tune, what;

static const struct xf_cli_option operand = {
    "what to measure", NULL, "speed|memory", NULL, XF_CLI_CHOICE, &what, 0, 0};

static const struct xf_cli_option options[] = {
    {"-p", "--n-prompt", "N", "tokens of the prompt; 0: no such test", XF_CLI_COUNT, &prompt, 0,
     MOST_TOKENS},
    {"-n", "--n-gen", "N", "tokens to generate; 0: no such test", XF_CLI_COUNT, &generate, 0,
     MOST_TOKENS},
    {"-r", "--repetitions", "N", "samples of each test", XF_CLI_COUNT, &repetitions, 1, 1000},
    {"--tune", NULL, NULL, "find and keep the best q-blocks of attention", XF_CLI_SWITCH, &tune, 0,
     0},
    {"--json", NULL, NULL, "print a list with one object for each test", XF_CLI_SWITCH, &json, 0,
     0},
    {0}};

/* One test: n tokens into an empty cache, `step` at a time. */
struct test {
  const struct xf_cli_session *session;
  char name[32];
  int32_t *tokens; /* [n] */
  size_t n, step;
  float *logits; /* [vocabulary] */
  int code;      /* exit code of what failed */
};

/* The work of a sample: see measure.h. */
static void run_test(void *arg)
{
  struct test *test = arg;
  xf_error error = {0};
  xf_cache_truncate(test->session->cache, 0);
  for (size_t done = 0, rows; !test->code && done < test->n; done += rows) {
    rows = test->n - done < test->step ? test->n - done : test->step;
    bool last = test->step == 1 || done + rows == test->n;
    xf_sequence sequence = {.cache = test->session->cache,
                            .tokens = test->tokens + done,
                            .n_tokens = rows,
                            .logits = last ? XF_LOGITS_LAST : XF_LOGITS_NONE,
                            .out = last ? test->logits : NULL};
    if (xf_cli_interrupted())
      test->code = XF_CLI_INTERRUPTED + xf_cli_interrupted();
    else if (xf_forward(test->session->model, &sequence, 1, &error))
      test->code = xf_cli_error(&error);
  }
}

/* A result; rates are in tokens, FLOP and bytes a second. */
struct result {
  struct summary summary;
  double median, least, most;
};

static int measure_test(struct test *test, struct result *result)
{
  size_t n = (size_t)repetitions;
  struct sample *samples = calloc(n, sizeof *samples);
  if (!samples) return xf_cli_fail("out of memory for %zu samples", n);
  run_test(test); /* touches all memory once */
  double fastest = 0, slowest = 0;
  for (size_t i = 0; !test->code && i < n; i++) {
    char stage[48];
    snprintf(stage, sizeof stage, "measuring %s", test->name);
    xf_cli_progress(NULL, stage, i, n);
    samples[i] = measure(test->session->context, true, run_test, test);
    fastest = i == 0 || samples[i].seconds < fastest ? samples[i].seconds : fastest;
    slowest = samples[i].seconds > slowest ? samples[i].seconds : slowest;
  }
  xf_cli_progress_clear();
  if (!test->code) {
    result->summary = summarise(samples, n);
    result->median = (double)test->n / result->summary.seconds;
    result->least = (double)test->n / slowest;
    result->most = (double)test->n / fastest;
  }
  free(samples);
  return test->code;
}

static bool add_result(cJSON *list, const struct test *test, const struct result *r)
{
  const xf_context *context = test->session->context;
  cJSON *o = cJSON_CreateObject();
  return cJSON_AddItemToArray(list, o) && xf_cli_json_word(o, "test", test->name) &&
         xf_cli_json_number(o, "tokens_per_s", r->median) &&
         xf_cli_json_number(o, "tokens_per_s_min", r->least) &&
         xf_cli_json_number(o, "tokens_per_s_max", r->most) &&
         xf_cli_json_number(o, "samples", (double)r->summary.samples) &&
         xf_cli_json_number(o, "clean_samples", (double)r->summary.clean) &&
         xf_cli_json_number(o, "fma_peak_gflops", r->summary.fma * 1e-9) &&
         xf_cli_json_number(o, "read_gbps", r->summary.read * 1e-9) &&
         xf_cli_json_number(o, "threads", xf_context_threads(context)) &&
         xf_cli_json_word(o, "isa", xf_context_isa(context)) &&
         xf_cli_json_word(o, "fast",
                          xf_context_fast(context) ? xf_context_fast(context) : "none") &&
         xf_cli_json_word(o, "weight_type", xf_type_name(test->session->info.weight_type)) &&
         xf_cli_json_number(o, "parameters", (double)test->session->info.parameters);
}

static int print_row(const struct test *test, const struct result *r)
{
  const xf_context *context = test->session->context;
  const char *fast = xf_context_fast(context);
  printf("%-10s %11.2f %11.2f %11.2f %11.1f %11.1f %8u  %s%s%s\n", test->name, r->median, r->least,
         r->most, r->summary.fma * 1e-9, r->summary.read * 1e-9,
         (unsigned)xf_context_threads(context), xf_context_isa(context), fast ? ", fast: " : "",
         fast ? fast : "");
  return xf_cli_flush();
}

static int run_tests(struct test *test, cJSON *list, bool *complete)
{
  const struct {
    const char *prefix;
    size_t n, step;
  } kinds[] = {{"pp", (size_t)prompt, xf_cli_chunk()}, {"tg", (size_t)generate, 1}};
  int code = XF_CLI_OK;
  if (!json)
    printf("%-10s %11s %11s %11s %11s %11s %8s  %s\n", "test", "tokens/s", "least", "most",
           "peak GFLOPS", "read GB/s", "threads", "isa");
  for (size_t i = 0; !code && i < sizeof kinds / sizeof *kinds; i++) {
    struct result result = {0};
    if (kinds[i].n == 0) continue;
    test->n = kinds[i].n;
    test->step = kinds[i].step;
    snprintf(test->name, sizeof test->name, "%s%zu", kinds[i].prefix, test->n);
    code = measure_test(test, &result);
    if (code) break;
    if (json)
      *complete = *complete && add_result(list, test, &result);
    else
      code = print_row(test, &result);
  }
  return code;
}

static int bench(const struct xf_cli_session *s, size_t most)
{
  struct test test = {.session = s};
  test.tokens = malloc(most * sizeof *test.tokens);
  test.logits = malloc(s->info.vocab_size * sizeof *test.logits);
  bool arena = arena_open();
  int code = arena && test.tokens && test.logits ? XF_CLI_OK : xf_cli_fail("out of memory");
  /* Any tokens: speed does not depend on them. */
  for (size_t i = 0; !code && i < most; i++)
    test.tokens[i] = (int32_t)((i * 2654435761u + 1) % s->info.vocab_size);
  if (!code) {
    cJSON *list = json ? cJSON_CreateArray() : NULL;
    bool complete = list != NULL;
    code = run_tests(&test, list, &complete);
    if (!code && json)
      code = xf_cli_json_print(list, complete);
    else
      cJSON_Delete(list);
  }
  if (arena) arena_close();
  free(test.tokens);
  free(test.logits);
  return code;
}

static int run(void)
{
  if (what == MEMORY && tune)
    return xf_cli_misuse("bench", "memory and --tune are two measurements; take one of them");
  if (what == MEMORY) return xf_cli_bench_memory(json);
  if (tune) return xf_cli_bench_tune((size_t)repetitions, json);
  size_t most = (size_t)(prompt > generate ? prompt : generate);
  if (most == 0) return xf_cli_misuse("bench", "-p and -n are both 0; nothing is to be measured");
  struct xf_cli_session session;
  int code = xf_cli_session_open_as(&session, most, xf_cli_attention());
  if (!code) code = bench(&session, most);
  xf_cli_session_close(&session);
  return code;
}

const struct xf_cli_command xf_cli_bench = {
    .name = "bench",
    .summary = "measure the speed of a model, or the memory of attention",
    .description =
        "speed, or no word: measures prefill (pp: -p tokens at once) and generation (tg: -n\n"
        "tokens one by one), each from an empty cache. tokens/s is the median of the samples with\n"
        "the CPUs to themselves, least and most are of all of them. What the machine could do at\n"
        "that moment stands beside it: the FMA peak of the instruction set and the speed of\n"
        "reading memory, of all threads.\n\n"
        "memory: shows the working memory of flash attention and of standard attention, which\n"
        "keeps all scores, for 512 to 32768 tokens: what each asks for, and by how much the peak\n"
        "of resident memory grows when it runs.\n\n"
        "--tune: times attention with each q-block (query positions of one task) on sequences of\n"
        "three lengths and keeps the fastest for this CPU and instruction set in $XF_TUNING, or\n"
        "$XDG_CONFIG_HOME/exactflash/tuning.json, where all commands find it. Results stay the\n"
        "same to the bit.",
    .examples = "  exactflash bench\n"
                "  exactflash bench -m tinyllama -p 512 -n 64 --threads 4 --json\n"
                "  exactflash bench memory --plot memory.svg\n"
                "  exactflash bench --tune\n",
    .operand = &operand,
    .tables = {options, xf_cli_bench_memory_options, xf_cli_model_options, xf_cli_run_options + 1,
               xf_cli_machine_options},
    .run = run};
