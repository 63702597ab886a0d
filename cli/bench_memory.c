#include "cli/bench_memory.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/attention_problem.h"
#include "cli/json.h"
#include "cli/plot.h"
#include "cli/report.h"
#include "cli/session.h"
#include "dispatch/attention.h" /* standard attention is no operator of the public interface */

enum {
  HEADS = XF_PROBLEM_HEADS,
  KV_HEADS = XF_PROBLEM_KV_HEADS,
  D = XF_PROBLEM_D,
  PAGE_LEN = XF_PROBLEM_PAGE_LEN,
  SHORTEST = 512,
  LENGTHS = 7
};
enum { MANY_THREADS = 16, WARM_UP = 16 };

static const char *plot_path;
static uint64_t run_to = 4096;

const struct xf_cli_option xf_cli_bench_memory_options[] = {
    {"--plot", NULL, "FILE", "memory: draw the table as SVG; - is stdout", XF_CLI_TEXT, &plot_path,
     0, 0},
    {"--run-to", NULL, "N", "memory: the longest sequence to run and measure; 0: none",
     XF_CLI_COUNT, &run_to, 0, SHORTEST << (LENGTHS - 1)},
    {0}};

static struct xf_attention standard_of(struct xf_problem *p, struct xf_attention_sequence *sequence)
{
  *sequence = (struct xf_attention_sequence){
      .pages = p->pages, .q_len = p->n, .kv_len = p->n, .q = p->q, .out = p->out};
  return (struct xf_attention){
      .kv = {XF_F32, PAGE_LEN, D, D, D, 0, (size_t)PAGE_LEN * D, (size_t)PAGE_LEN * 2 * D},
      .q_heads = HEADS,
      .kv_heads = KV_HEADS,
      .q_stride = HEADS * D,
      .q_head_stride = D,
      .out_stride = HEADS * D,
      .out_head_stride = D,
      .n = 1,
      .sequences = sequence};
}

/* One length: bytes, 0 where that was not measured. */
struct row {
  double n, flash, flash_many, standard, scores;
  double flash_growth, standard_growth;
  bool standard_skipped;
};

static int fill_row(const xf_context *context, size_t n, struct row *row)
{
  struct xf_problem problem;
  struct xf_attention_sequence sequence;
  xf_error error;
  size_t flash, many;
  if (!xf_problem_open(&problem, n)) return xf_cli_fail("no address space for %zu tokens", n);
  xf_attention_desc desc = xf_problem_flash(&problem);
  xf_status status = xf_attention_workspace(context, &desc, 0, &flash, &error);
  if (!status) status = xf_attention_workspace(context, &desc, MANY_THREADS, &many, &error);
  if (!status) {
    struct xf_attention standard = standard_of(&problem, &sequence);
    size_t floats = xf_attention_standard_floats(context, &standard);
    *row = (struct row){.n = (double)n,
                        .flash = (double)flash,
                        .flash_many = (double)many,
                        .standard = (double)floats * sizeof(float),
                        .scores = (double)n * (double)n * HEADS * sizeof(float)};
  }
  xf_problem_close(&problem);
  return status ? xf_cli_error(&error) : XF_CLI_OK;
}

/* ---- running it: each time in a process of its own, whose peak is that run's ---- */

static bool run_attention(const xf_context *context, struct xf_problem *p, bool standard)
{
  struct xf_attention_sequence sequence;
  struct xf_attention a = standard_of(p, &sequence);
  xf_attention_desc desc = xf_problem_flash(p);
  size_t bytes = 0;
  if (standard)
    bytes = xf_attention_standard_floats(context, &a) * sizeof(float);
  else if (xf_attention_workspace(context, &desc, 0, &bytes, NULL))
    return false;
  void *workspace = malloc(bytes);
  bool good = workspace != NULL;
  if (good && standard) xf_attention_standard(context, &a, workspace);
  if (good && !standard) good = !xf_attention(context, &desc, workspace, bytes, NULL);
  free(workspace);
  return good;
}

/* By how much the peak grows; < 0 on failure. All else that is touched was touched before. */
static double growth_of(size_t n, bool standard)
{
  struct xf_problem problem;
  xf_context *context;
  if (xf_cli_context_open(&context) || !xf_problem_open(&problem, n)) return -1;
  xf_problem_fill(&problem);
  problem.n = WARM_UP, problem.kv_len = WARM_UP;
  bool good = run_attention(context, &problem, standard);
  problem.n = n, problem.kv_len = (int64_t)n;
  double before = xf_cli_peak_rss_bytes();
  good = good && run_attention(context, &problem, standard);
  double growth = xf_cli_peak_rss_bytes() - before;
  xf_problem_close(&problem);
  xf_context_destroy(context);
  return good ? growth : -1;
}

/* < 0 where the child ran out of memory. */
static int measure(size_t n, bool standard, double *growth)
{
  int ends[2], code = XF_CLI_OK;
  if (pipe(ends)) return xf_cli_fail("cannot make a pipe");
  fflush(NULL);
  pid_t child = fork();
  if (child == 0) {
    double result = growth_of(n, standard);
    ssize_t written = write(ends[1], &result, sizeof result);
    _exit(written == sizeof result ? 0 : 1);
  }
  close(ends[1]);
  *growth = -1;
  if (child < 0)
    code = xf_cli_fail("cannot start a process");
  else if (read(ends[0], growth, sizeof *growth) != sizeof *growth)
    *growth = -1;
  close(ends[0]);
  if (child > 0) waitpid(child, NULL, 0);
  return code;
}

/* Bytes that can be had without swapping; none where the system does not say. */
static double available_bytes(void)
{
  char line[256];
  unsigned long long kibibytes = 0;
  FILE *file = fopen("/proc/meminfo", "r");
  while (file && !kibibytes && fgets(line, sizeof line, file))
    if (sscanf(line, "MemAvailable: %llu", &kibibytes) != 1) kibibytes = 0;
  if (file) fclose(file);
  return 1024.0 * (double)kibibytes;
}

static int measure_row(struct row *row)
{
  int code = measure((size_t)row->n, false, &row->flash_growth);
  if (code) return code;
  if (row->flash_growth < 0) return xf_cli_fail("out of memory for %.0f tokens", row->n);
  row->standard_skipped = row->standard * 1.25 > available_bytes();
  if (row->standard_skipped) return XF_CLI_OK;
  code = measure((size_t)row->n, true, &row->standard_growth);
  row->standard_skipped = row->standard_growth < 0;
  return code;
}

/* ---- output ---- */

static void print_measured(double bytes, bool skipped)
{
  if (skipped)
    printf(" %12s", "skipped");
  else if (bytes > 0)
    printf(" %12.2f", bytes * 1e-6);
  else
    printf(" %12s", "-");
}

static int print_table(const struct row *rows, unsigned threads)
{
  bool skipped = false;
  printf("Working memory in MB: %d query heads, %d KV heads, head_dim %d, batch 1, f32\n", HEADS,
         KV_HEADS, D);
  printf("%-8s %8s%-4u %12s %12s %8s %8s %12s %12s\n", "seq_len", "flash x", threads, "flash x16",
         "standard", "ratio", "ratio x16", "flash run", "standard run");
  for (size_t i = 0; i < LENGTHS; i++) {
    const struct row *r = &rows[i];
    printf("%-8.0f %12.2f %12.2f %12.2f %8.0f %8.0f", r->n, r->flash * 1e-6, r->flash_many * 1e-6,
           r->standard * 1e-6, r->standard / r->flash, r->standard / r->flash_many);
    print_measured(r->flash_growth, false);
    print_measured(r->standard_growth, r->standard_skipped);
    puts("");
    skipped = skipped || r->standard_skipped;
  }
  puts("x: threads; run: by how much the peak of resident memory grew when it ran");
  if (skipped) puts("skipped: this machine has not enough memory available for standard attention");
  return xf_cli_flush();
}

static bool add_row(cJSON *list, const struct row *r)
{
  cJSON *o = cJSON_CreateObject();
  bool ran = r->n <= (double)run_to;
  return cJSON_AddItemToArray(list, o) && xf_cli_json_number(o, "seq_len", r->n) &&
         xf_cli_json_number(o, "flash_bytes", r->flash) &&
         xf_cli_json_number(o, "flash_bytes_16_threads", r->flash_many) &&
         xf_cli_json_number(o, "standard_bytes", r->standard) &&
         xf_cli_json_number(o, "scores_bytes", r->scores) &&
         xf_cli_json_number(o, "ratio", r->standard / r->flash) &&
         xf_cli_json_number(o, "ratio_16_threads", r->standard / r->flash_many) &&
         xf_cli_json_number(o, "flash_peak_growth_bytes", ran ? r->flash_growth : NAN) &&
         xf_cli_json_number(o, "standard_peak_growth_bytes",
                            ran && !r->standard_skipped ? r->standard_growth : NAN) &&
         cJSON_AddBoolToObject(o, "standard_skipped", r->standard_skipped);
}

static int print_json(const struct row *rows, unsigned threads)
{
  cJSON *root = cJSON_CreateObject();
  bool complete = xf_cli_json_number(root, "heads", HEADS) &&
                  xf_cli_json_number(root, "kv_heads", KV_HEADS) &&
                  xf_cli_json_number(root, "head_dim", D) && xf_cli_json_number(root, "batch", 1) &&
                  xf_cli_json_number(root, "threads", threads);
  cJSON *list = cJSON_AddArrayToObject(root, "lengths");
  for (size_t i = 0; complete && i < LENGTHS; i++) complete = add_row(list, &rows[i]);
  return xf_cli_json_print(root, complete);
}

static int write_plot(const struct row *rows, unsigned threads)
{
  double x[LENGTHS], y[5][LENGTHS];
  char flash[32];
  snprintf(flash, sizeof flash, "flash, %u thread%s", threads, threads > 1 ? "s" : "");
  for (size_t i = 0; i < LENGTHS; i++) {
    x[i] = rows[i].n;
    y[0][i] = rows[i].standard, y[1][i] = rows[i].flash_many, y[2][i] = rows[i].flash;
    y[3][i] = rows[i].standard_growth, y[4][i] = rows[i].flash_growth;
  }
  const struct xf_cli_line lines[] = {{"standard", "#c0392b", y[0], false},
                                      {"flash, 16 threads", "#2980b9", y[1], false},
                                      {flash, "#27ae60", y[2], false},
                                      {"standard, peak when run", "#c0392b", y[3], true},
                                      {"flash, peak when run", "#27ae60", y[4], true}};
  const struct xf_cli_plot plot = {"Working memory of attention: 32 query heads, 4 KV heads, "
                                   "head_dim 64, batch 1, f32",
                                   "seq_len",
                                   x,
                                   LENGTHS,
                                   lines,
                                   run_to >= SHORTEST ? 5 : 3};
  return xf_cli_plot_write(&plot, plot_path);
}

int xf_cli_bench_memory(bool json)
{
  struct row rows[LENGTHS];
  xf_context *context;
  if (plot_path && strcmp(plot_path, "-") == 0 && json)
    return xf_cli_misuse("bench", "--json and --plot - would both go to stdout");
  int code = xf_cli_context_open(&context);
  if (code) return code;
  unsigned threads = xf_context_threads(context);
  for (size_t i = 0; !code && i < LENGTHS; i++)
    code = fill_row(context, (size_t)SHORTEST << i, &rows[i]);
  xf_context_destroy(context); /* before processes are made of this one: it has threads */
  for (size_t i = 0; !code && i < LENGTHS; i++)
    if (rows[i].n <= (double)run_to) code = measure_row(&rows[i]);
  if (!code && plot_path) code = write_plot(rows, threads);
  if (!code && json) return print_json(rows, threads);
  if (!code && !(plot_path && strcmp(plot_path, "-") == 0)) code = print_table(rows, threads);
  return code;
}
