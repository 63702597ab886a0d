/* verify bits: a fixed input on every instruction set, cut and spread in every way. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/fnv1a.h"
#include "cli/interrupt.h"
#include "cli/locate.h"
#include "cli/progress.h"
#include "cli/report.h"
#include "cli/trial.h"
#include "cli/verify.h"

/* Three sequences. The second follows keys and values that are made up, enough that attention
 * merges two blocks of keys; the first ends with the tokens that the model would choose. */
enum { SEQUENCES = 3, ALL = 1 << 20 };
static const size_t lengths[SEQUENCES] = {32, 12, 6}, pasts[SEQUENCES] = {0, 520, 0};
enum { CHOSEN = 8 }; /* of the first sequence's tokens */

struct input {
  const char *path;
  xf_model_info info;
  int32_t *tokens[SEQUENCES];
  float *want[SEQUENCES]; /* [length, vocabulary] */
  float *past;            /* the second sequence's keys, then its values, of every layer */
  const float **layers;   /* [2 · layers]: past for import */
};

struct configuration {
  const char *isa;
  uint32_t threads;
  xf_attention_split split;
  size_t call;   /* tokens that a sequence adds in a call */
  bool together; /* all sequences in every call, or one after another */
};

struct model {
  xf_context *context;
  xf_model *model;
  xf_cache *caches[SEQUENCES];
};

static void describe(const struct configuration *c, char *text, size_t size)
{
  static const char *const splits[] = {"auto", "never", "always"};
  char call[32] = "whole prompts";
  if (c->call != ALL) snprintf(call, sizeof call, "%zu token%s", c->call, c->call == 1 ? "" : "s");
  snprintf(text, size, "%s, %u thread%s, split %s, %s of %s in a call", c->isa, c->threads,
           c->threads == 1 ? "" : "s", splits[c->split], call,
           c->together ? "all sequences" : "one sequence");
}

/* ---- models ---- */

static void close_model(struct model *m)
{
  for (size_t i = 0; i < SEQUENCES; i++) xf_cache_destroy(m->caches[i]);
  xf_model_close(m->model);
  xf_context_destroy(m->context);
}

/* record: what is recorded of all runs, or NULL. Close in any case. */
static int open_model(const char *path, const struct configuration *c, struct xf_cli_record *record,
                      struct model *m)
{
  xf_error error = {0};
  *m = (struct model){0};
  xf_context_options machine = {
      .struct_size = sizeof machine, .isa = c->isa, .threads = c->threads};
  xf_model_options options = {.struct_size = sizeof options,
                              .split = c->split,
                              .activations = xf_cli_activations(),
                              .cache_type = xf_cli_cache_type(),
                              .progress = xf_cli_progress};
  if (record) options.boundary = xf_cli_record_operator;
  options.boundary_arg = record;
  xf_status status = xf_context_create(&machine, &m->context, &error);
  if (!status) status = xf_model_open(m->context, path, &options, &m->model, &error);
  for (size_t i = 0; !status && i < SEQUENCES; i++)
    status = xf_cache_create(m->model, pasts[i] + lengths[i], &m->caches[i], &error);
  for (size_t i = 0; record && i < SEQUENCES; i++) record->caches[i] = m->caches[i];
  return status ? xf_cli_error(&error) : XF_CLI_OK;
}

static bool begin(const struct input *input, struct model *m, xf_error *error)
{
  bool good = true;
  for (size_t i = 0; good && i < SEQUENCES; i++) {
    xf_cache_truncate(m->caches[i], 0);
    if (pasts[i])
      good = xf_cache_import(m->caches[i], pasts[i], input->layers,
                             input->layers + input->info.layers, error) == XF_OK;
  }
  return good;
}

/* ---- input ---- */

static int make_input(const struct model *m, struct input *input)
{
  xf_model_get_info(m->model, &input->info);
  const xf_model_info *info = &input->info;
  size_t kv = pasts[1] * info->kv_heads * info->head_dim;
  bool room = true;
  for (size_t i = 0; i < SEQUENCES; i++) {
    input->tokens[i] = calloc(lengths[i], sizeof(int32_t));
    input->want[i] = calloc(lengths[i], info->vocab_size * sizeof(float));
    room = room && input->tokens[i] && input->want[i];
  }
  input->past = calloc(2 * kv, sizeof *input->past);
  input->layers = calloc(2 * (size_t)info->layers, sizeof *input->layers);
  if (!room || !input->past || !input->layers) return xf_cli_fail("out of memory for the logits");
  for (size_t i = 0, k = 1; i < SEQUENCES; i++)
    for (size_t j = 0; j < lengths[i]; j++, k++)
      input->tokens[i][j] = (int32_t)(k * 2654435761u % info->vocab_size);
  for (size_t i = 0; i < 2 * kv; i++) /* multiples of 2^-23 from −1 to 1 */
    input->past[i] = (float)((uint32_t)i * 2654435761u >> 8) * 0x1p-23f - 1;
  for (size_t i = 0; i < info->layers; i++) {
    input->layers[i] = input->past;
    input->layers[info->layers + i] = input->past + kv;
  }
  return XF_CLI_OK;
}

static void free_input(struct input *input)
{
  for (size_t i = 0; i < SEQUENCES; i++) {
    free(input->tokens[i]);
    free(input->want[i]);
  }
  free(input->past);
  free(input->layers);
}

static int32_t largest(const float *logits, size_t n)
{
  size_t best = 0;
  for (size_t i = 1; i < n; i++)
    if (logits[i] > logits[best]) best = i;
  return (int32_t)best;
}

/* Fills want, and the tokens that are chosen, with the first configuration. */
static int make_reference(struct input *input, const struct configuration *c)
{
  struct model m;
  xf_error error = {0};
  int code = open_model(input->path, c, NULL, &m);
  if (!code) code = make_input(&m, input);
  bool good = !code && begin(input, &m, &error);
  for (size_t i = 0; good && i < SEQUENCES; i++) {
    struct xf_cli_session session = {
        .path = input->path, .model = m.model, .cache = m.caches[i], .info = input->info};
    size_t vocab = input->info.vocab_size, given = lengths[i] - (i == 0 ? CHOSEN : 0);
    int32_t *tokens = input->tokens[i];
    float *want = input->want[i];
    good = xf_cli_trial_forward(&session, tokens, given, want, &error);
    for (size_t n = given; good && n < lengths[i]; n++) {
      tokens[n] = largest(want + (n - 1) * vocab, vocab);
      good = xf_cli_trial_forward(&session, tokens + n, 1, want + n * vocab, &error);
    }
  }
  if (!code && !good) code = xf_cli_fail("%s: %s", input->path, error.message);
  close_model(&m);
  return code;
}

static void tell_fingerprint(struct xf_cli_checks *checks, const struct input *input)
{
  uint32_t version = xf_numerics_version();
  uint64_t hash = xf_fnv1a(XF_FNV1A_BEGIN, &version, 1);
  for (size_t i = 0; i < SEQUENCES; i++) {
    hash = xf_fnv1a(hash, input->tokens[i], lengths[i]);
    hash = xf_fnv1a(hash, input->want[i], lengths[i] * input->info.vocab_size);
  }
  char text[64];
  int n = snprintf(text, sizeof text, "%04x-%04x-%04x-%04x, numerics %u", (unsigned)(hash >> 48),
                   (unsigned)(hash >> 32 & 0xFFFF), (unsigned)(hash >> 16 & 0xFFFF),
                   (unsigned)(hash & 0xFFFF), (unsigned)version);
  if (xf_cli_cache_type() != XF_F32)
    snprintf(text + n, sizeof text - (size_t)n, ", %s cache", xf_type_name(xf_cli_cache_type()));
  xf_cli_checks_tell(checks, "fingerprint", text);
}

/* ---- configurations ---- */

/* How many tokens each sequence adds in a call. Together, the last joins one call later. */
static void plan(const struct configuration *c, size_t round, const size_t *left, size_t *take)
{
  memset(take, 0, SEQUENCES * sizeof *take);
  for (size_t i = 0; i < SEQUENCES; i++) {
    if (i == SEQUENCES - 1 && c->together && round == 0) continue;
    take[i] = left[i] < c->call ? left[i] : c->call;
    if (take[i] && !c->together) return;
  }
}

/* got: [length, vocabulary] of each sequence. */
static bool run_calls(const struct input *input, const struct configuration *c, struct model *m,
                      float *const *got, xf_error *error)
{
  size_t left[SEQUENCES], take[SEQUENCES];
  memcpy(left, lengths, sizeof left);
  bool good = begin(input, m, error);
  for (size_t round = 0; good && left[0] + left[1] + left[2] > 0; round++) {
    xf_sequence calls[SEQUENCES];
    size_t n = 0;
    plan(c, round, left, take);
    for (size_t i = 0; i < SEQUENCES; i++) {
      size_t at = lengths[i] - left[i];
      if (take[i])
        calls[n++] = (xf_sequence){m->caches[i], input->tokens[i] + at, take[i], XF_LOGITS_ALL,
                                   got[i] + at * input->info.vocab_size};
      left[i] -= take[i];
    }
    good = xf_forward(m->model, calls, n, error) == XF_OK;
  }
  return good;
}

/* The first value that differs, in words; false: none does. */
static bool find_difference(const struct input *input, float *const *got,
                            const struct configuration *c, char *why, size_t size)
{
  size_t vocab = input->info.vocab_size;
  for (size_t i = 0; i < SEQUENCES; i++) {
    struct xf_cli_difference d = {0};
    xf_cli_difference_add(&d, got[i], input->want[i], lengths[i] * vocab);
    if (!d.unequal) continue;
    uint32_t bits[2];
    memcpy(&bits[0], &got[i][d.first], sizeof bits[0]);
    memcpy(&bits[1], &input->want[i][d.first], sizeof bits[1]);
    char configuration[160];
    describe(c, configuration, sizeof configuration);
    snprintf(why, size,
             "sequence %zu, position %zu, logit %zu is %08" PRIx32 " (%.9g), not %08" PRIx32
             " (%.9g): %s",
             i, pasts[i] + d.first / vocab, d.first % vocab, bits[0], (double)got[i][d.first],
             bits[1], (double)input->want[i][d.first], configuration);
    return true;
  }
  return false;
}

/* ---- where they part ---- */

/* Runs a configuration again and records it. */
static bool record_run(const struct input *input, const struct configuration *c, float *const *got,
                       struct xf_cli_record *record)
{
  struct model m;
  xf_error error = {0};
  bool good =
      open_model(input->path, c, record, &m) == XF_CLI_OK && run_calls(input, c, &m, got, &error);
  close_model(&m);
  return good;
}

/* The first value of the kept row that differs. */
static void describe_part(const struct xf_cli_record *a, const struct xf_cli_record *b,
                          struct xf_cli_place place, char *text, size_t size)
{
  size_t i = 0, n = a->n_values < b->n_values ? a->n_values : b->n_values;
  while (i < n && memcmp(&a->values[i], &b->values[i], sizeof *a->values) == 0) i++;
  if (i < n)
    snprintf(text, size, "%s: sequence %zu, position %zu, element %zu is %.9g, not %.9g", b->name,
             place.sequence, place.position, i, (double)b->values[i], (double)a->values[i]);
}

/* The first layer, tensor and element that a configuration makes otherwise than the reference, in
 * words: operators are run one by one, so that what only happens between them is not found. */
static void locate(const struct input *input, const struct configuration *reference,
                   const struct configuration *c, float *const *got, char *text, size_t size)
{
  struct xf_cli_record records[2];
  struct xf_cli_place place;
  bool good = true;
  snprintf(text, size, "no single operator gives other bits");
  for (size_t i = 0; i < 2; i++) {
    records[i] = (struct xf_cli_record){
        .n_sequences = SEQUENCES, .layers = input->info.layers, .most = lengths[0]};
    memcpy(records[i].first, pasts, sizeof pasts);
    good = xf_cli_record_begin(&records[i]) && good;
    good = good && record_run(input, i ? c : reference, got, &records[i]);
  }
  if (good && xf_cli_records_part(&records[0], &records[1], &place)) {
    for (size_t i = 0; good && i < 2; i++) {
      records[i].keeps = true;
      records[i].kept = place;
      good = record_run(input, i ? c : reference, got, &records[i]);
    }
    describe_part(&records[0], &records[1], place, text, size);
  }
  for (size_t i = 0; i < 2; i++) xf_cli_record_free(&records[i]);
}

/* Configuration `index` of an ISA; false past the last one. */
static bool configure(const char *isa, bool quick, size_t index, struct configuration *c)
{
  static const struct configuration few[] = {{NULL, 1, XF_SPLIT_NEVER, ALL, false},
                                             {NULL, 2, XF_SPLIT_ALWAYS, 7, true},
                                             {NULL, 5, XF_SPLIT_AUTO, 1, false}};
  static const uint32_t threads[] = {1, 2, 5};
  static const size_t calls[] = {ALL, 1, 7};
  size_t n = quick ? 3 : xf_cli_threads() ? 18 : 54;
  if (index >= n) return false;
  if (quick)
    *c = few[index];
  else
    *c = (struct configuration){NULL, threads[index / 18], (xf_attention_split)(index / 6 % 3),
                                calls[index / 2 % 3], index % 2};
  c->isa = isa;
  if (xf_cli_threads()) c->threads = xf_cli_threads();
  return true;
}

/* All configurations of one ISA, up to the first difference. */
static int try_isa(const struct input *input, const struct configuration *reference,
                   const char *isa, bool quick, float *const *got, struct xf_cli_checks *checks)
{
  struct configuration c, last = {0};
  struct model m = {0};
  xf_error error = {0};
  char name[64], why[400] = "";
  int code = XF_CLI_OK;
  size_t i = 0;
  for (; !code && !why[0] && configure(isa, quick, i, &c); i++) {
    if (i == 0 || c.threads != last.threads || c.split != last.split) {
      close_model(&m);
      code = open_model(input->path, &c, NULL, &m);
    }
    last = c;
    if (!code && xf_cli_progress(NULL, isa, i, quick ? 3 : 54))
      code = XF_CLI_INTERRUPTED + xf_cli_interrupted();
    if (!code && !run_calls(input, &c, &m, got, &error)) code = xf_cli_error(&error);
    if (!code) find_difference(input, got, &c, why, sizeof why);
  }
  close_model(&m);
  xf_cli_progress_clear();
  snprintf(name, sizeof name, "%s, %zu configurations", isa, i);
  if (!code) xf_cli_check(checks, !why[0], name, why);
  if (!code && why[0]) {
    locate(input, reference, &last, got, why, sizeof why);
    snprintf(name, sizeof name, "%s differs first in", isa);
    xf_cli_checks_tell(checks, name, why);
  }
  return code;
}

static int try_isas(const struct input *input, const struct configuration *reference, bool quick,
                    struct xf_cli_checks *checks)
{
  float *got[SEQUENCES];
  int code = XF_CLI_OK;
  for (size_t i = 0; i < SEQUENCES; i++) {
    got[i] = calloc(lengths[i], input->info.vocab_size * sizeof *got[i]);
    if (!got[i]) code = xf_cli_fail("out of memory for the logits");
  }
  for (size_t i = 0; !code && xf_isa_name(i); i++)
    if (xf_isa_supported(i) && (!xf_cli_isa() || strcmp(xf_cli_isa(), xf_isa_name(i)) == 0))
      code = try_isa(input, reference, xf_isa_name(i), quick, got, checks);
  for (size_t i = 0; i < SEQUENCES; i++) free(got[i]);
  return code;
}

/* The last one of the list, which every machine has; or the one of --isa, right or wrong. */
static const char *reference_isa(void)
{
  const char *isa = xf_cli_isa();
  for (size_t i = 0; !xf_cli_isa() && xf_isa_name(i); i++)
    if (xf_isa_supported(i)) isa = xf_isa_name(i);
  return isa;
}

int xf_cli_verify_bits(bool quick, struct xf_cli_checks *checks)
{
  struct input input = {.path = xf_cli_model_path()};
  if (!input.path) return XF_CLI_FAILED;
  xf_cli_interrupt_watch();
  xf_context *context = NULL;
  int code = xf_cli_context_open(&context); /* or --isa is wrong usage */
  xf_context_destroy(context);
  if (code) return code;
  struct configuration reference = {reference_isa(), 1, XF_SPLIT_NEVER, ALL, false};
  code = make_reference(&input, &reference);
  if (!code) code = try_isas(&input, &reference, quick, checks);
  if (!code) tell_fingerprint(checks, &input);
  free_input(&input);
  return code;
}
