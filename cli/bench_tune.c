#include "cli/bench_tune.h"

#include <stdio.h>
#include <stdlib.h>

#include "bench/arena.h"
#include "bench/measure.h"
#include "cli/attention_problem.h"
#include "cli/interrupt.h"
#include "cli/json.h"
#include "cli/progress.h"
#include "cli/report.h"
#include "cli/session.h"
#include "cli/tuning.h"
#include "dispatch/attention.h" /* the policy is no part of the public interface */

enum { CLASSES = XF_Q_BLOCK_CLASSES, SMALLEST = 8, CHOICES = 6 /* 8, 16 … 256 */ };

/* A length in the middle of each class of the policy. */
static const size_t lengths[CLASSES] = {128, 512, 2048};

/* Another choice than the policy's must be faster by so much. */
static const double gain = 0.02;

struct run {
  const xf_context *context;
  const xf_attention_desc *desc;
  void *workspace;
  size_t bytes;
};

static void run_attention(void *arg)
{
  const struct run *run = arg;
  xf_error error;
  if (xf_attention(run->context, run->desc, run->workspace, run->bytes, &error))
    abort(); /* the same call has succeeded before */
}

/* The policy's own choice for a class. */
static uint32_t default_of(size_t class)
{
  return (uint32_t)xf_attention_q_block(NULL, lengths[class]);
}

static uint32_t choice_of(size_t i)
{
  return (uint32_t)SMALLEST << i;
}

/* Medians of the choices for one length, taken in turn: what changes meanwhile changes for all. */
static int time_choices(struct run *run, xf_attention_desc *desc, size_t n, size_t repetitions,
                        double seconds[static CHOICES])
{
  struct sample *samples = calloc(repetitions * CHOICES, sizeof *samples);
  int code = samples ? XF_CLI_OK : xf_cli_fail("out of memory for %zu samples", repetitions);
  char stage[48];
  snprintf(stage, sizeof stage, "attention of %zu tokens", n);
  for (size_t r = 0; !code && r < repetitions; r++) {
    xf_cli_progress(NULL, stage, r, repetitions);
    for (size_t i = 0; i < CHOICES; i++) {
      desc->q_block = choice_of(i);
      samples[i * repetitions + r] = measure(run->context, false, run_attention, run);
    }
    if (xf_cli_interrupted()) code = XF_CLI_INTERRUPTED + xf_cli_interrupted();
  }
  xf_cli_progress_clear();
  for (size_t i = 0; !code && i < CHOICES; i++)
    seconds[i] = summarise(samples + i * repetitions, repetitions).seconds;
  free(samples);
  return code;
}

/* 0 where the policy's own choice is good enough. */
static uint32_t best_choice(const double seconds[static CHOICES], uint32_t own)
{
  size_t best = 0, default_index = 0;
  for (size_t i = 0; i < CHOICES; i++) {
    if (seconds[i] < seconds[best]) best = i;
    if (choice_of(i) == own) default_index = i;
  }
  return seconds[best] < (1 - gain) * seconds[default_index] ? choice_of(best) : 0;
}

static int tune_length(const xf_context *context, size_t n, size_t repetitions,
                       double seconds[static CHOICES])
{
  struct xf_problem problem;
  xf_error error;
  if (!xf_problem_open(&problem, n)) return xf_cli_fail("no address space for %zu tokens", n);
  xf_problem_fill(&problem);
  xf_attention_desc desc = xf_problem_flash(&problem);
  desc.causal = 1;
  desc.q_block = choice_of(CHOICES - 1); /* of all choices this one needs the most */
  struct run run = {.context = context, .desc = &desc};
  int code = XF_CLI_OK;
  if (xf_attention_workspace(context, &desc, 0, &run.bytes, &error)) code = xf_cli_error(&error);
  if (!code && !(run.workspace = malloc(run.bytes))) code = xf_cli_fail("out of memory");
  if (!code && xf_attention(context, &desc, run.workspace, run.bytes, &error))
    code = xf_cli_error(&error);
  if (!code) code = time_choices(&run, &desc, n, repetitions, seconds);
  free(run.workspace);
  xf_problem_close(&problem);
  return code;
}

static int print_table(const double seconds[CLASSES][CHOICES], const uint32_t best[static CLASSES],
                       const char *path)
{
  printf("Milliseconds of causal attention, %d query heads, %d KV heads, head_dim %d\n%-8s",
         XF_PROBLEM_HEADS, XF_PROBLEM_KV_HEADS, XF_PROBLEM_D, "q-block");
  for (size_t i = 0; i < CHOICES; i++) printf(" %9u", (unsigned)choice_of(i));
  puts("     best");
  for (size_t c = 0; c < CLASSES; c++) {
    printf("%-8zu", lengths[c]);
    for (size_t i = 0; i < CHOICES; i++) printf(" %9.3f", 1e3 * seconds[c][i]);
    printf(" %8u%s\n", (unsigned)(best[c] ? best[c] : default_of(c)), best[c] ? "" : " (default)");
  }
  printf("kept in %s\n", path);
  return xf_cli_flush();
}

static int print_json(const double seconds[CLASSES][CHOICES], const uint32_t best[static CLASSES],
                      const char *path, const xf_context *context)
{
  cJSON *root = cJSON_CreateObject();
  bool complete = xf_cli_json_word(root, "file", path) &&
                  xf_cli_json_word(root, "isa", xf_context_isa(context)) &&
                  xf_cli_json_number(root, "threads", xf_context_threads(context));
  cJSON *list = cJSON_AddArrayToObject(root, "lengths");
  for (size_t c = 0; complete && c < CLASSES; c++) {
    cJSON *o = cJSON_CreateObject();
    complete = cJSON_AddItemToArray(list, o) &&
               xf_cli_json_number(o, "seq_len", (double)lengths[c]) &&
               xf_cli_json_number(o, "default", default_of(c)) &&
               xf_cli_json_number(o, "best", best[c] ? best[c] : default_of(c));
    cJSON *times = cJSON_AddObjectToObject(o, "seconds");
    for (size_t i = 0; complete && i < CHOICES; i++) {
      char name[16];
      snprintf(name, sizeof name, "%u", (unsigned)choice_of(i));
      complete = xf_cli_json_number(times, name, seconds[c][i]);
    }
  }
  return xf_cli_json_print(root, complete);
}

int xf_cli_bench_tune(size_t repetitions, bool json)
{
  double seconds[CLASSES][CHOICES] = {{0}};
  uint32_t best[CLASSES] = {0};
  const char *path = NULL;
  xf_context *context;
  xf_cli_interrupt_watch();
  int code = xf_cli_context_open(&context);
  if (code) return code;
  bool arena = arena_open();
  if (!arena) code = xf_cli_fail("out of memory");
  for (size_t c = 0; !code && c < CLASSES; c++) {
    code = tune_length(context, lengths[c], repetitions, seconds[c]);
    if (!code) best[c] = best_choice(seconds[c], default_of(c));
  }
  if (!code) code = xf_cli_tuning_save(xf_context_isa(context), best, &path);
  if (!code && json)
    code = print_json(seconds, best, path, context);
  else if (!code)
    code = print_table(seconds, best, path);
  if (arena) arena_close();
  xf_context_destroy(context);
  return code;
}
