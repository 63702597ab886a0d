/* exactflash logits: runs token ids through the model and writes NumPy's format. */
#include <stdlib.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/file.h"
#include "cli/interrupt.h"
#include "cli/progress.h"
#include "cli/report.h"
#include "cli/session.h"

static const char *list, *path;
static int all;

static const struct xf_cli_option options[] = {
    {"--ids", NULL, "1,2,3", "the token ids, BOS included where it is wanted", XF_CLI_TEXT, &list,
     0, 0},
    {"--all", NULL, NULL, "the logits behind every id, not only the last", XF_CLI_SWITCH, &all, 0,
     0},
    {"-o", "--output", "FILE", "where to write the .npy; -: standard output", XF_CLI_TEXT, &path, 0,
     0},
    {0}};

/* Reads list into *ids (malloc). */
static int parse_ids(int32_t **ids, size_t *n)
{
  *n = 1;
  for (const char *c = list; *c; c++) *n += *c == ',';
  *ids = malloc(*n * sizeof **ids);
  char *copy = strdup(list), *rest = copy;
  int code = *ids && copy ? XF_CLI_OK : xf_cli_fail("out of memory for %zu ids", *n);
  for (size_t i = 0; !code && i < *n; i++) {
    const char *word = strsep(&rest, ",");
    uint64_t id;
    if (xf_cli_parse_count(word, &id) && id <= INT32_MAX)
      (*ids)[i] = (int32_t)id;
    else
      code = xf_cli_misuse("logits", "--ids takes whole numbers parted by commas, not '%s'", word);
  }
  free(copy);
  return code;
}

/* The header of the .npy format, version 1.0: 10 bytes, a Python dict padded to 64 bytes. */
static int write_header(struct xf_cli_output *output, size_t rows, size_t columns)
{
  char header[129];
  enum { HEADER = sizeof header - 1, PREFIX = 10 };
  memset(header, ' ', HEADER);
  memcpy(header, "\x93NUMPY\x01\x00", 8);
  header[8] = HEADER - PREFIX;
  header[9] = 0;
  int n =
      snprintf(header + PREFIX, HEADER - PREFIX,
               "{'descr': '<f4', 'fortran_order': False, 'shape': (%zu, %zu), }", rows, columns);
  header[PREFIX + n] = ' ';
  header[HEADER - 1] = '\n';
  return xf_cli_output_write(output, header, HEADER);
}

static size_t smaller(size_t a, size_t b)
{
  return a < b ? a : b;
}

/* Chunk by chunk, so that memory does not grow with the rows. */
static int write_rows(const struct xf_cli_session *s, const int32_t *ids, size_t n,
                      struct xf_cli_output *output)
{
  size_t chunk = smaller(n, xf_cli_chunk()), vocab = s->info.vocab_size;
  float *logits = calloc((all ? chunk : 1) * vocab, sizeof *logits);
  int code = logits ? XF_CLI_OK : xf_cli_fail("out of memory for the logits; lower --chunk");
  xf_error error = {0};
  for (size_t done = 0; !code && done < n; done += chunk) {
    chunk = smaller(chunk, n - done);
    xf_sequence sequence = {.cache = s->cache, .tokens = ids + done, .n_tokens = chunk};
    if (all)
      sequence.logits = XF_LOGITS_ALL;
    else if (done + chunk == n)
      sequence.logits = XF_LOGITS_LAST;
    size_t rows = all ? chunk : sequence.logits == XF_LOGITS_LAST;
    if (rows) sequence.out = logits;
    if (xf_cli_progress(NULL, "prefill", done, n))
      code = XF_CLI_INTERRUPTED + xf_cli_interrupted();
    else if (xf_forward(s->model, &sequence, 1, &error))
      code = xf_cli_error(&error);
    else
      code = xf_cli_output_write(output, logits, rows * vocab * sizeof *logits);
  }
  xf_cli_progress_clear();
  free(logits);
  return code;
}

static int write_logits(const struct xf_cli_session *s, const int32_t *ids, size_t n)
{
  size_t capacity = xf_cache_capacity(s->cache);
  if (n > capacity)
    return xf_cli_fail("%zu ids do not fit into the KV cache of %zu positions; raise --ctx", n,
                       capacity);
  struct xf_cli_output output;
  int code = xf_cli_output_open(&output, path);
  if (!code) code = write_header(&output, all ? n : 1, s->info.vocab_size);
  if (!code) code = write_rows(s, ids, n, &output);
  if (!code) code = xf_cli_output_commit(&output);
  xf_cli_output_discard(&output);
  return code;
}

static int run(void)
{
  if (!list) return xf_cli_misuse("logits", "give the token ids by --ids 1,2,3");
  if (!path) return xf_cli_misuse("logits", "name the file to write by -o FILE.npy");
  int32_t *ids;
  size_t n;
  int code = parse_ids(&ids, &n);
  if (!code) {
    struct xf_cli_session session;
    code = xf_cli_session_open(&session);
    if (!code) code = write_logits(&session, ids, n);
    xf_cli_session_close(&session);
  }
  free(ids);
  return code;
}

const struct xf_cli_command xf_cli_logits = {
    .name = "logits",
    .summary = "write a model's logits for token ids",
    .description = "Writes the logits as a NumPy .npy file, float32 [rows, vocabulary].",
    .examples = "  exactflash logits -m tinyllama --ids 1,9038,2501 -o last.npy\n"
                "  exactflash logits -m tinyllama --ids 1,9038,2501 --all -o all.npy\n",
    .tables = {options, xf_cli_model_options, xf_cli_run_options, xf_cli_machine_options},
    .run = run};
