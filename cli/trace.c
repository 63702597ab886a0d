#include "cli/trace.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "cli/file.h"
#include "cli/report.h"
#include "cli/session.h"

enum { THREADS = 1024, SPANS = 4 /* parallel loops of an operator */, OPERATORS_LANE = 0 };

/* What a thread did of the operator that is running; seconds. */
struct lane {
  _Alignas(64) struct {
    double begin, end;
  } spans[SPANS];
  size_t n;
};

const char *xf_cli_trace_path;

static struct {
  struct xf_cli_output output;
  struct lane lanes[THREADS];
  double start;
  size_t lanes_named; /* lanes 0 … lanes_named − 1 have a name */
  bool open, running; /* running: an operator is */
  int failure;        /* exit code of the first write that failed */
} trace;

static void write_text(const char *text)
{
  if (!trace.failure) trace.failure = xf_cli_output_write(&trace.output, text, strlen(text));
}

int xf_cli_trace_begin(void)
{
  if (!xf_cli_trace_path || trace.open) return XF_CLI_OK;
  int code = xf_cli_output_open(&trace.output, xf_cli_trace_path);
  if (code) return code;
  trace.open = true;
  trace.start = xf_cli_seconds();
  write_text(
      "{\"displayTimeUnit\":\"ns\",\"traceEvents\":[\n"
      "{\"ph\":\"M\",\"pid\":1,\"name\":\"process_name\",\"args\":{\"name\":\"exactflash\"}}");
  return trace.failure;
}

/* Of lane `tid` and those before it. */
static void name_lanes(size_t tid)
{
  char line[160];
  for (; trace.lanes_named <= tid; trace.lanes_named++) {
    char name[32] = "operators";
    if (trace.lanes_named > OPERATORS_LANE)
      snprintf(name, sizeof name, "thread %zu", trace.lanes_named - 1);
    snprintf(line, sizeof line,
             ",\n{\"ph\":\"M\",\"pid\":1,\"tid\":%zu,\"name\":\"thread_name\",\"args\":{\"name\":"
             "\"%s\"}}",
             trace.lanes_named, name);
    write_text(line);
  }
}

static void write_span(const xf_operator *op, size_t tid, double begin, double end)
{
  char line[320];
  int64_t rows = op->attention ? op->attention->q.shape[1] : op->y.shape[0];
  name_lanes(tid);
  snprintf(line, sizeof line,
           ",\n{\"ph\":\"X\",\"pid\":1,\"tid\":%zu,\"ts\":%.3f,\"dur\":%.3f,\"name\":\"%s %s\","
           "\"cat\":\"%s\",\"args\":{\"layer\":%d,\"rows\":%lld,\"position\":%lld}}",
           tid, 1e6 * (begin - trace.start), 1e6 * (end - begin), op->name, op->tensor, op->name,
           (int)op->layer, (long long)rows, (long long)op->positions[0]);
  write_text(line);
}

/* An xf_observer. A thread writes to its own lane; the operator's end is known to come behind. */
static void observe(void *arg, uint32_t slot, int begins)
{
  (void)arg;
  struct lane *lane = &trace.lanes[slot];
  if (!trace.running || lane->n == SPANS) return;
  if (begins)
    lane->spans[lane->n].begin = xf_cli_seconds();
  else
    lane->spans[lane->n++].end = xf_cli_seconds();
}

/* An xf_boundary. */
static xf_status cross(void *arg, const xf_operator *op, xf_error *error)
{
  (void)arg;
  trace.running = true;
  double begin = xf_cli_seconds();
  xf_status status = xf_operator_run(op, error);
  double end = xf_cli_seconds();
  trace.running = false;
  write_span(op, OPERATORS_LANE, begin, end);
  for (size_t slot = 0; slot < THREADS; slot++) {
    struct lane *lane = &trace.lanes[slot];
    for (size_t i = 0; i < lane->n; i++)
      write_span(op, slot + 1, lane->spans[i].begin, lane->spans[i].end);
    lane->n = 0;
  }
  return status;
}

void xf_cli_trace_context(xf_context_options *options)
{
  if (trace.open) options->observer = observe;
}

void xf_cli_trace_model(xf_model_options *options)
{
  if (trace.open) options->boundary = cross;
}

int xf_cli_trace_end(int code)
{
  if (!trace.open) return code;
  bool wanted = code == XF_CLI_OK || code > XF_CLI_INTERRUPTED;
  write_text("\n]}\n");
  if (!trace.failure && wanted) trace.failure = xf_cli_output_commit(&trace.output);
  xf_cli_output_discard(&trace.output);
  trace.open = false;
  return code ? code : trace.failure;
}
