/* What most commands need: a context, a model, its tokenizer and a cache. */
#ifndef XF_CLI_SESSION_H
#define XF_CLI_SESSION_H

#include <stdbool.h>

#include "cli/options.h"
#include "exactflash/exactflash.h"

extern const struct xf_cli_option xf_cli_model_options[]; /* -m */
/* --fast, --activations, --threads, --pin, --isa. From the second row on: for commands that check
 * exact results; from the third: for those without a model. */
extern const struct xf_cli_option xf_cli_machine_options[];
/* --ctx, --chunk, --attention, --trace, --cache-type. A table from its second row on is a table
 * without --ctx; from XF_CLI_CACHE_TYPE_ROW on, of that alone. */
extern const struct xf_cli_option xf_cli_run_options[];
enum { XF_CLI_CACHE_TYPE_ROW = 4 };

struct xf_cli_session {
  const char *path; /* of the model */
  xf_context *context;
  xf_model *model;
  xf_cache *cache;
  xf_model_info info;
};

/* The model that -m names, else the demo model; NULL, and reported, where there is none. */
const char *xf_cli_model_path(void);
/* The --chunk, --attention, --activations and --cache-type that the library will use. */
size_t xf_cli_chunk(void);
xf_attention_kind xf_cli_attention(void);
xf_activations xf_cli_activations(void);
/* For comparisons that int8 activations would drown: they turn the least difference of roundings
 * into a step of 1/127. From now on models are opened with f32 ones, unless --activations was given
 * or the model has no 8- or 4-bit weights: then false. */
bool xf_cli_exact_activations(const xf_model_info *info);
xf_type xf_cli_cache_type(void);
/* The --isa and --threads that were given, else NULL and 0. */
const char *xf_cli_isa(void);
uint32_t xf_cli_threads(void);

/* What `bench --tune` found for the instruction set of the last context [XF_Q_BLOCK_CLASSES]. */
const uint32_t *xf_cli_q_blocks(void);

/* A context as --threads and --isa say. Returns an exit code, failures reported. */
int xf_cli_context_open(xf_context **context);
/* Opens all of them and watches for Ctrl-C. Returns an exit code, failures reported; close in any
 * case. */
int xf_cli_session_open(struct xf_cli_session *session);
/* The same with a cache of that many positions (0: as the model says) and that attention. */
int xf_cli_session_open_as(struct xf_cli_session *session, size_t capacity, xf_attention_kind kind);
/* The same for the model at that path. */
int xf_cli_session_open_at(struct xf_cli_session *session, const char *path, size_t capacity,
                           xf_attention_kind kind);
void xf_cli_session_close(struct xf_cli_session *session);

/* Seconds of a clock that never jumps. */
double xf_cli_seconds(void);
/* The most memory this process has held. */
double xf_cli_peak_rss_bytes(void);

#endif
