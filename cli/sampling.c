#include "cli/sampling.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/report.h"

static uint64_t seed = 1, top_k, repeat_last_n = 64;
static float temperature = 0.8f, top_p = 1, min_p, typical = 1;
static float repetition = 1, frequency, presence;
static struct xf_cli_list biases, stops;
static xf_logit_bias bias[XF_CLI_LIST];

const struct xf_cli_option xf_cli_sampling_options[] = {
    {"--temp", "--temperature", "T", "0: always the most probable token", XF_CLI_REAL, &temperature,
     0, 1000},
    {"--top_k", NULL, "K", "sample from the K most probable tokens; 0: off", XF_CLI_COUNT, &top_k,
     0, 0},
    {"--top_p", NULL, "P", "sample from the most probable tokens of that sum", XF_CLI_REAL, &top_p,
     0, 1},
    {"--min_p", NULL, "P", "drop tokens below P times the most probable one", XF_CLI_REAL, &min_p,
     0, 1},
    {"--typical", NULL, "P", "locally typical sampling; 1: off", XF_CLI_REAL, &typical, 0, 1},
    {"--repeat_penalty", NULL, "R", "divides logits of recent tokens; 1: off", XF_CLI_REAL,
     &repetition, 0.01, 100},
    {"--frequency_penalty", NULL, "X", "taken from a logit for each recent use", XF_CLI_REAL,
     &frequency, -100, 100},
    {"--presence_penalty", NULL, "X", "taken once from logits of recent tokens", XF_CLI_REAL,
     &presence, -100, 100},
    {"--repeat_last_n", NULL, "N", "tokens that count as recent", XF_CLI_COUNT, &repeat_last_n, 1,
     16777216},
    {"--logit_bias", NULL, "ID=X", "add X to a token's logit (-inf: never); may be repeated",
     XF_CLI_TEXTS, &biases, 0, 0},
    {"--stop", NULL, "TEXT", "end in front of this text; may be repeated", XF_CLI_TEXTS, &stops, 0,
     0},
    {"--seed", NULL, "S", "of the random numbers", XF_CLI_COUNT, &seed, 0, 0},
    {0}};

static int parse_bias(const char *word, xf_logit_bias *out)
{
  char id[24], *end;
  size_t n = strcspn(word, "=");
  uint64_t token;
  if (n >= sizeof id || word[n] != '=') return 0;
  memcpy(id, word, n);
  id[n] = '\0';
  if (!xf_cli_parse_count(id, &token) || token > INT32_MAX) return 0;
  float value = strtof(word + n + 1, &end);
  if (end == word + n + 1 || *end || isnan(value) || value == INFINITY) return 0;
  *out = (xf_logit_bias){(int32_t)token, value};
  return 1;
}

int xf_cli_sampling_check(const char *command)
{
  for (size_t i = 0; i < biases.n; i++)
    if (!parse_bias(biases.texts[i], &bias[i]))
      return xf_cli_misuse(command, "--logit_bias takes ID=X, such as 13=-2.5 or 2=-inf, not '%s'",
                           biases.texts[i]);
  for (size_t i = 0; i < stops.n; i++)
    if (!stops.texts[i][0]) return xf_cli_misuse(command, "--stop takes a text that is not empty");
  return XF_CLI_OK;
}

xf_generate_options xf_cli_sampling(void)
{
  return (xf_generate_options){.struct_size = sizeof(xf_generate_options),
                               .temperature = temperature,
                               .top_p = top_p,
                               .seed = seed,
                               .top_k = (size_t)top_k,
                               .min_p = min_p,
                               .typical = typical,
                               .repetition_penalty = repetition,
                               .frequency_penalty = frequency,
                               .presence_penalty = presence,
                               .repeat_last_n = (uint32_t)repeat_last_n,
                               .logit_bias = bias,
                               .n_logit_bias = biases.n,
                               .stop = stops.texts,
                               .n_stop = stops.n};
}
