#include "litert/options.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "dispatch/error.h"

enum { THREADS_MOST = 1024 }; /* of xf_context_options */

static xf_status read_threads(const char *value, struct xf_litert_options *out, xf_error *error)
{
  char *end;
  errno = 0;
  long threads = strtol(value, &end, 10);
  if (errno || end == value || *end || threads < 0 || threads > THREADS_MOST)
    return xf_fail(error, XF_E_ARGUMENT, "option threads: \"%s\" is no number in 0 … %d", value,
                   THREADS_MOST);
  out->threads = (uint32_t)threads;
  return XF_OK;
}

static xf_status read_isa(const char *value, struct xf_litert_options *out, xf_error *error)
{
  for (size_t i = 0; xf_isa_name(i); i++) {
    if (strcmp(value, xf_isa_name(i)) != 0) continue;
    if (!xf_isa_supported(i))
      return xf_fail(error, XF_E_CPU, "option isa: this CPU cannot run \"%s\"", value);
    snprintf(out->isa, sizeof out->isa, "%s", value);
    return XF_OK;
  }
  return xf_fail(error, XF_E_ARGUMENT, "option isa: there is no \"%s\" in this build", value);
}

static xf_status read_rms_norm(const char *value, struct xf_litert_options *out, xf_error *error)
{
  out->rms_norm = strcmp(value, "1") == 0;
  if (out->rms_norm || strcmp(value, "0") == 0) return XF_OK;
  return xf_fail(error, XF_E_ARGUMENT, "option rms_norm: \"%s\" is neither 0 nor 1", value);
}

static xf_status open_report(const char *value, struct xf_litert_options *out, xf_error *error)
{
  xf_litert_options_close(out);
  out->report = strcmp(value, "stderr") == 0 ? stderr : fopen(value, "ae");
  if (out->report) return XF_OK;
  return xf_fail(error, XF_E_FILE, "option report: cannot write %s: %s", value, strerror(errno));
}

xf_status xf_litert_options_read(const char *const *keys, const char *const *values, size_t n,
                                 struct xf_litert_options *out, xf_error *error)
{
  static const struct {
    const char *key;
    xf_status (*read)(const char *value, struct xf_litert_options *out, xf_error *error);
  } options[] = {{"threads", read_threads},
                 {"isa", read_isa},
                 {"rms_norm", read_rms_norm},
                 {"report", open_report}};
  enum { OPTIONS = sizeof options / sizeof *options };
  *out = (struct xf_litert_options){.rms_norm = true};
  xf_status status = XF_OK;
  for (size_t i = 0; i < n && !status; i++) {
    size_t o = 0;
    if (!keys[i] || !values[i]) {
      status = xf_fail(error, XF_E_ARGUMENT, "option %zu: the key or its value is NULL", i);
      break;
    }
    while (o < OPTIONS && strcmp(keys[i], options[o].key) != 0) o++;
    status = o < OPTIONS
                 ? options[o].read(values[i], out, error)
                 : xf_fail(error, XF_E_ARGUMENT,
                           "unknown option \"%s\"; there are threads, isa, rms_norm and report",
                           keys[i]);
  }
  if (status) xf_litert_options_close(out);
  return status;
}

void xf_litert_options_close(struct xf_litert_options *options)
{
  if (options->report && options->report != stderr) fclose(options->report);
  options->report = NULL;
}
