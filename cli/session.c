#include "cli/session.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "cli/interrupt.h"
#include "cli/progress.h"
#include "cli/report.h"
#include "cli/trace.h"
#include "cli/tuning.h"

enum { DEFAULT_CHUNK = 512 };

static const char *model, *isa;
static uint64_t threads, chunk, ctx; /* 0: as the model says */
static int attention = -1, activations = -1, cache_type, pin, fast;
static uint32_t q_blocks[XF_Q_BLOCK_CLASSES];

const struct xf_cli_option xf_cli_model_options[] = {
    {"-m", "--model", "PATH",
     "the model: a folder, a GGUF or a .tflite file (default: the demo model)", XF_CLI_TEXT, &model,
     0, 0},
    {0}};

const struct xf_cli_option xf_cli_machine_options[] = {
    {"--fast", NULL, NULL,
     "round activations to bf16 for bf16 weights, where the CPU has instructions for that; other "
     "results than everywhere else",
     XF_CLI_SWITCH, &fast, 0, 0},
    {"--activations", NULL, "int8|f32", "what 8- and 4-bit weights are multiplied with",
     XF_CLI_CHOICE, &activations, 0, 0},
    {"--threads", NULL, "N", "threads; 0: one for each physical core", XF_CLI_COUNT, &threads, 0,
     1024},
    {"--pin", NULL, NULL, "keep each thread on a core of its own", XF_CLI_SWITCH, &pin, 0, 0},
    {"--isa", NULL, "NAME", "instruction set (default: XF_ISA, else the best; see info)",
     XF_CLI_TEXT, &isa, 0, 0},
    {0}};

const struct xf_cli_option xf_cli_run_options[] = {
    {"--ctx", "--kv_cache_max_len", "N",
     "most tokens in the cache; 0: as the model's plan or the model says", XF_CLI_COUNT, &ctx, 0,
     16777216},
    {"--chunk", NULL, "N",
     "most tokens of the prompt at once; 0: as the model's plan says, else 512", XF_CLI_COUNT,
     &chunk, 0, 65536},
    {"--attention", NULL, "flash|standard",
     "tiled, or with all scores in memory (default: as the model's plan says, else flash)",
     XF_CLI_CHOICE, &attention, 0, 0},
    {"--trace", NULL, "FILE", "write a timeline of every operator, per thread (Chrome's format)",
     XF_CLI_TEXT, &xf_cli_trace_path, 0, 0},
    {"--cache-type", NULL, "f32|f16|bf16|i8",
     "keys and values in the cache: exact, or rounded to half or a quarter of the memory (default: "
     "f32)",
     XF_CLI_CHOICE, &cache_type, 0, 0},
    {0}};

_Static_assert(sizeof xf_cli_run_options ==
                   (XF_CLI_CACHE_TYPE_ROW + 2) * sizeof *xf_cli_run_options,
               "--cache-type is the last row");

/* The folder of this program with `relative` behind it, if that can be read. */
static const char *beside_program(const char *relative)
{
  static char path[PATH_MAX];
  char program[PATH_MAX];
  ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);
  if (n < 0) return NULL;
  program[n] = '\0';
  char *slash = strrchr(program, '/');
  if (!slash) return NULL;
  *slash = '\0';
  int length = snprintf(path, sizeof path, "%s/%s", program, relative);
  return length < (int)sizeof path && access(path, R_OK) == 0 ? path : NULL;
}

const char *xf_cli_model_path(void)
{
  if (model) return model;
  const char *path = getenv("XF_DEMO_MODEL");
  if (path && *path) return path;
  path = beside_program("../share/exactflash/demo-model");
  if (!path && access(XF_CLI_SOURCE_MODEL, R_OK) == 0) path = XF_CLI_SOURCE_MODEL;
  if (!path) xf_cli_fail("the demo model is not installed; name a model with -m, or XF_DEMO_MODEL");
  return path;
}

size_t xf_cli_chunk(void)
{
  return chunk ? (size_t)chunk : DEFAULT_CHUNK;
}

xf_attention_kind xf_cli_attention(void)
{
  return attention < 0 ? XF_ATTENTION_PLANNED : (xf_attention_kind)attention;
}

xf_activations xf_cli_activations(void)
{
  return activations < 0 ? XF_ACTIVATIONS_INT8 : (xf_activations)activations;
}

bool xf_cli_exact_activations(const xf_model_info *info)
{
  bool blocks = false;
  for (uint32_t i = 0; i < info->n_types; i++) blocks |= xf_type_size(info->types[i].type) == 0;
  if (!blocks || activations >= 0) return false;
  activations = XF_ACTIVATIONS_F32;
  return true;
}

xf_type xf_cli_cache_type(void)
{
  static const xf_type types[] = {XF_F32, XF_F16, XF_BF16, XF_I8};
  return types[cache_type];
}

const char *xf_cli_isa(void)
{
  return isa;
}

uint32_t xf_cli_threads(void)
{
  return (uint32_t)threads;
}

static xf_status open_parts(struct xf_cli_session *s, size_t capacity, xf_attention_kind kind,
                            xf_error *error)
{
  xf_model_options options = {.struct_size = sizeof options,
                              .attention = kind,
                              .chunk = (uint32_t)chunk,
                              .activations = xf_cli_activations(),
                              .cache_type = xf_cli_cache_type(),
                              .progress = xf_cli_progress};
  xf_cli_trace_model(&options);
  xf_status status = xf_model_open(s->context, s->path, &options, &s->model, error);
  if (status) return status;
  xf_model_get_info(s->model, &s->info);
  xf_plan plan;
  xf_model_get_plan(s->model, &plan);
  if (capacity == 0) capacity = plan.kv_cache_max_len;
  if (capacity == 0) capacity = s->info.max_position_embeddings;
  return xf_cache_create(s->model, capacity, &s->cache, error);
}

/* The instruction set that a context will have. */
static const char *isa_to_use(void)
{
  const char *variable = getenv("XF_ISA");
  size_t best = 0;
  while (xf_isa_name(best) && !xf_isa_supported(best)) best++;
  return isa ? isa : variable && *variable ? variable : xf_isa_name(best);
}

const uint32_t *xf_cli_q_blocks(void)
{
  return q_blocks;
}

int xf_cli_context_open(xf_context **context)
{
  xf_error error = {0};
  xf_context_options options = {.struct_size = sizeof options,
                                .isa = isa,
                                .threads = (uint32_t)threads,
                                .pin_threads = pin,
                                .fast = fast};
  if (isa_to_use()) xf_cli_tuning_load(isa_to_use(), q_blocks);
  memcpy(options.q_blocks, q_blocks, sizeof q_blocks);
  int failure = xf_cli_trace_begin();
  if (failure) return failure;
  xf_cli_trace_context(&options);
  xf_status status = xf_context_create(&options, context, &error);
  if (!status) return XF_CLI_OK;
  int code = xf_cli_error(&error);
  return status == XF_E_ARGUMENT ? XF_CLI_USAGE : code; /* --isa or XF_ISA */
}

int xf_cli_session_open(struct xf_cli_session *s)
{
  return xf_cli_session_open_as(s, (size_t)ctx, xf_cli_attention());
}

int xf_cli_session_open_as(struct xf_cli_session *s, size_t capacity, xf_attention_kind kind)
{
  *s = (struct xf_cli_session){0};
  const char *path = xf_cli_model_path();
  return path ? xf_cli_session_open_at(s, path, capacity, kind) : XF_CLI_FAILED;
}

int xf_cli_session_open_at(struct xf_cli_session *s, const char *path, size_t capacity,
                           xf_attention_kind kind)
{
  xf_error error = {0};
  *s = (struct xf_cli_session){.path = path};
  xf_cli_interrupt_watch();
  int code = xf_cli_context_open(&s->context);
  if (code) return code;
  return open_parts(s, capacity, kind, &error) ? xf_cli_error(&error) : XF_CLI_OK;
}

void xf_cli_session_close(struct xf_cli_session *s)
{
  xf_cache_destroy(s->cache);
  xf_model_close(s->model);
  xf_context_destroy(s->context);
}

double xf_cli_seconds(void)
{
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* ru_maxrss also counts what ran in this process before exec, such as a large parent's copy; VmHWM
 * does not. */
double xf_cli_peak_rss_bytes(void)
{
  char line[256];
  unsigned long kibibytes = 0;
  FILE *status = fopen("/proc/self/status", "r");
  while (status && !kibibytes && fgets(line, sizeof line, status))
    if (sscanf(line, "VmHWM: %lu", &kibibytes) != 1) kibibytes = 0;
  if (status) fclose(status);
  struct rusage usage;
  if (!kibibytes && getrusage(RUSAGE_SELF, &usage) == 0) kibibytes = (unsigned long)usage.ru_maxrss;
  return 1024.0 * (double)kibibytes;
}
