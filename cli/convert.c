/* exactflash convert: a checkpoint into one file. */
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cli/progress.h"
#include "cli/report.h"
#include "cli/session.h"

enum { USUAL_CAPACITY = 1024 };

static const char *checkpoint, *output, *folder = ".", *prefix;
static struct xf_cli_list lengths;
static uint64_t capacity;
static int quantize, attention, force, packed; /* attention: XF_ATTENTION_FLASH is "true" */

/* quantize's words. */
static const struct {
  xf_type type;      /* 0: as the checkpoint has them */
  const char *label; /* in the file's name; NULL: the type's name */
} kinds[] = {{0, NULL},         {XF_F16, NULL},  {XF_BF16, NULL}, {XF_I8_ROW, "q8"},
             {XF_Q8_0, NULL},   {XF_Q4_0, NULL}, {XF_Q4_1, NULL}, {XF_Q5_0, NULL},
             {XF_Q5_1, NULL},   {XF_Q4_K, NULL}, {XF_Q5_K, NULL}, {XF_Q6_K, NULL},
             {XF_I8_ROW, "q8"}, {0, NULL}};

static const struct xf_cli_option options[] = {
    {"--checkpoint_path", "-m", "PATH", "the checkpoint: a folder or a GGUF file", XF_CLI_TEXT,
     &checkpoint, 0, 0},
    {"--output", "-o", "FILE", "the file to write (default: named as below)", XF_CLI_TEXT, &output,
     0, 0},
    {"--output_path", NULL, "DIR", "where the file goes that --output does not name", XF_CLI_TEXT,
     &folder, 0, 0},
    {"--output_name_prefix", NULL, "NAME", "its name begins so (default: as the checkpoint's)",
     XF_CLI_TEXT, &prefix, 0, 0},
    {"--quantize", NULL, "none|f16|bf16|i8_row|q8_0|q4_0|q4_1|q5_0|q5_1|q4_k|q5_k|q6_k|true|false",
     "type of the weights; none, false: the checkpoint's; true: i8_row", XF_CLI_CHOICE, &quantize,
     0, 0},
    {"--prefill_seq_lens", NULL, "N,N,…",
     "plan: lengths of prompt chunks (default: 64,128,256,512)", XF_CLI_TEXTS, &lengths, 0, 0},
    {"--kv_cache_max_len", NULL, "N",
     "plan: capacity of the cache (default: 1024, if the model has as many positions)",
     XF_CLI_COUNT, &capacity, 1, 16777216},
    {"--use_flash_attention", NULL, "true|false", "plan: flash or standard attention",
     XF_CLI_CHOICE, &attention, 0, 0},
    {"--packed", NULL, NULL,
     "the weights as memory has them: opens at once, shared by processes; for exactflash alone",
     XF_CLI_SWITCH, &packed, 0, 0},
    {"--force", NULL, NULL, "replace a file that is there", XF_CLI_SWITCH, &force, 0, 0},
    {0}};

/* Adds the lengths of "64,128". */
static int add_lengths(const char *list, xf_plan *plan)
{
  uint64_t length;
  char *copy = strdup(list), *rest = copy;
  int code = copy ? XF_CLI_OK : xf_cli_fail("out of memory for --prefill_seq_lens");
  for (const char *word; !code && (word = strsep(&rest, ","));) {
    bool good = xf_cli_parse_count(word, &length) && length > 0 && length <= UINT32_MAX;
    if (good && plan->n_prefill_seq_lens < XF_PLAN_LENGTHS)
      plan->prefill_seq_lens[plan->n_prefill_seq_lens++] = (uint32_t)length;
    else
      code = xf_cli_misuse(
          "convert", "--prefill_seq_lens takes up to %d whole numbers parted by commas, not '%s'",
          XF_PLAN_LENGTHS, list);
  }
  free(copy);
  return code;
}

/* What was given, else what is usual and fits. */
static int make_plan(const xf_checkpoint_info *info, xf_plan *plan)
{
  static const uint32_t usual[] = {64, 128, 256, 512};
  uint32_t positions = info->max_position_embeddings;
  *plan = (xf_plan){.attention = (xf_attention_kind)attention,
                    .kv_cache_max_len = positions < USUAL_CAPACITY ? positions : USUAL_CAPACITY};
  if (capacity) plan->kv_cache_max_len = (uint32_t)capacity;
  for (size_t i = 0; !lengths.n && i < sizeof usual / sizeof *usual; i++)
    if (usual[i] <= plan->kv_cache_max_len)
      plan->prefill_seq_lens[plan->n_prefill_seq_lens++] = usual[i];
  int code = XF_CLI_OK;
  for (size_t i = 0; !code && i < lengths.n; i++) code = add_lengths(lengths.texts[i], plan);
  return code;
}

/* "FOLDER/PREFIX_q8_ekv1024.gguf" into path. */
static int name_output(const xf_checkpoint_info *info, const xf_plan *plan, char *path, size_t size)
{
  char whole[PATH_MAX];
  const char *begin = prefix;
  size_t n = prefix ? strlen(prefix) : 0;
  if (!prefix) { /* the last part of the checkpoint's path, whatever stands there */
    if (!realpath(checkpoint, whole)) return xf_cli_fail("cannot find %s", checkpoint);
    begin = strrchr(whole, '/') + 1;
    n = strlen(begin);
    if (n > 5 && strcmp(begin + n - 5, ".gguf") == 0) n -= 5;
  }
  xf_type type = kinds[quantize].type ? kinds[quantize].type : info->weight_type;
  const char *label = kinds[quantize].label;
  if (type == XF_I8_ROW) label = "q8";
  int length = snprintf(path, size, "%s/%.*s_%s%s_ekv%u.gguf", folder, (int)n, begin,
                        label ? label : xf_type_name(type), packed ? "_packed" : "",
                        (unsigned)plan->kv_cache_max_len);
  return length < (int)size ? XF_CLI_OK : xf_cli_fail("the name of the output is too long");
}

/* What was written, in a line. */
static int print_end(const char *path, const xf_plan *plan)
{
  struct stat written;
  if (stat(path, &written) != 0) return xf_cli_fail("%s: has gone", path);
  printf("%s: %.1f MB, cache of %u positions, prefill", path, (double)written.st_size / 1e6,
         (unsigned)plan->kv_cache_max_len);
  for (uint32_t i = 0; i < plan->n_prefill_seq_lens; i++)
    printf("%s%u", i ? "," : " ", (unsigned)plan->prefill_seq_lens[i]);
  printf(", %s attention\n", plan->attention == XF_ATTENTION_FLASH ? "flash" : "standard");
  return xf_cli_flush();
}

static int convert(const xf_plan *plan, const char *path)
{
  xf_error error = {0};
  xf_context *context = NULL;
  xf_convert_options convert_options = {.struct_size = sizeof convert_options,
                                        .type = kinds[quantize].type,
                                        .plan = *plan,
                                        .force = force,
                                        .packed = packed,
                                        .progress = xf_cli_progress};
  int code = xf_cli_context_open(&context);
  if (code) return code;
  xf_cli_interrupt_hold();
  xf_status status = xf_convert(context, checkpoint, path, &convert_options, &error);
  xf_cli_progress_clear();
  xf_context_destroy(context);
  if (status) return xf_cli_error(&error);
  return print_end(path, plan);
}

static int run(void)
{
  xf_error error = {0};
  xf_checkpoint_info info;
  xf_plan plan;
  char path[PATH_MAX];
  if (!checkpoint) return xf_cli_misuse("convert", "name the checkpoint by --checkpoint_path PATH");
  if (output && prefix)
    return xf_cli_misuse("convert", "give --output or --output_name_prefix, not both");
  if (xf_checkpoint_describe(checkpoint, &info, &error)) return xf_cli_error(&error);
  int code = make_plan(&info, &plan);
  if (!code && !output) code = name_output(&info, &plan, path, sizeof path);
  return code ? code : convert(&plan, output ? output : path);
}

const struct xf_cli_command xf_cli_convert = {
    .name = "convert",
    .summary = "make one file of a checkpoint, with smaller weights and a plan of how to run it",
    .description =
        "Writes a checkpoint as one GGUF file with its tokenizer, its chat template and a plan\n"
        "(lengths of prompt chunks, capacity of the cache, attention) that the other commands\n"
        "follow unless their options say otherwise. Files of any type but i8_row can be read by\n"
        "llama.cpp too, but no packed ones. A file without --output is named\n"
        "  OUTPUT_PATH/PREFIX_TYPE_ekvCAPACITY.gguf\n"
        "with q8 for i8_row. It has its name once it is whole: after a failure or Ctrl-C nothing\n"
        "is there but what was there before.",
    .examples =
        "  exactflash convert --checkpoint_path tinyllama --quantize q8_0\n"
        "  exactflash convert --checkpoint_path tinyllama --quantize true "
        "--output_name_prefix tl --kv_cache_max_len 2048\n"
        "  exactflash convert --checkpoint_path big.gguf --quantize q4_k --output small.gguf\n",
    .tables = {options, xf_cli_machine_options + 2},
    .run = run};
