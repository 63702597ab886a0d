/* Sessions in files. All numbers are little-endian:
 *   8 bytes  "exfl-ses"
 *   u32      version, 1
 *   u32      chat format, 0: none
 *   u64      fingerprint of the model
 *   u64      seed
 *   u32      1: the last answer was cut; else 0
 *   u32      numerics version, by which the continuation's bits are the same
 *   u64      n
 *   i32[n]   tokens
 *   u64      FNV-1a of all in front of it
 * FNV-1a finds any change of one byte, and misses others with a probability of
 * 2⁻⁶⁴. */
#include <string.h>

#include "dispatch/error.h"
#include "dispatch/memory.h"
#include "dispatch/options.h"
#include "exactflash/chat.h"
#include "model/file.h"
#include "model/fnv.h"
#include "model/model.h"
#include "model/new_file.h"

static const char magic[8] = "exfl-ses";
enum { VERSION = 1, CHECKSUM = sizeof(uint64_t) };

/* As in the file: both architectures of the library are little-endian. */
struct header {
  char magic[8];
  uint32_t version, format;
  uint64_t fingerprint, seed;
  uint32_t cut, numerics;
  uint64_t n;
};
_Static_assert(sizeof(struct header) == 48, "no gaps");

/* Sizes, settings and the last norm's weights, which no training leaves as they were. */
static uint64_t fingerprint(const xf_model *model)
{
  const struct xf_config *c = &model->config;
  const struct xf_rope_config *rope = &c->rope;
  xf_model_info info;
  xf_model_get_info(model, &info);
  const uint64_t sizes[] = {c->hidden,
                            c->intermediate,
                            c->layers,
                            c->heads,
                            c->kv_heads,
                            c->head_dim,
                            c->vocab,
                            (uint64_t)c->tied,
                            (uint64_t)rope->type,
                            (uint64_t)info.weight_type,
                            info.parameters};
  const double settings[] = {(double)c->rms_eps,     rope->theta,
                             rope->factor,           rope->low_freq_factor,
                             rope->high_freq_factor, rope->original_max_positions};
  uint64_t h = xf_fnv(XF_FNV_BEGIN, sizes, sizeof sizes);
  h = xf_fnv(h, settings, sizeof settings);
  return xf_fnv(h, model->weights.norm, c->hidden * sizeof(float));
}

/* What neither a caller nor a file may have in a session. */
static xf_status check(const char *path, const xf_model *model, const xf_session *s,
                       xf_status fault, xf_error *error)
{
  for (size_t i = 0; i < s->n_tokens; i++)
    if (s->tokens[i] < 0 || (size_t)s->tokens[i] >= model->config.vocab)
      return xf_fail(error, fault, "%s: token %zu of the session is not in the vocabulary", path,
                     i);
  if (s->format && !xf_chat_format_name(s->format))
    return xf_fail(error, fault, "%s: the session has an unknown chat format", path);
  return XF_OK;
}

static void fill(unsigned char *file, const xf_model *model, const xf_session *s)
{
  struct header header = {.version = VERSION,
                          .format = (uint32_t)s->format,
                          .fingerprint = fingerprint(model),
                          .seed = s->seed,
                          .cut = s->cut != 0,
                          .numerics = xf_numerics_version(),
                          .n = s->n_tokens};
  size_t bytes = s->n_tokens * sizeof *s->tokens, end = sizeof header + bytes;
  memcpy(header.magic, magic, sizeof magic);
  memcpy(file, &header, sizeof header);
  if (bytes) memcpy(file + sizeof header, s->tokens, bytes);
  uint64_t checksum = xf_fnv(XF_FNV_BEGIN, file, end);
  memcpy(file + end, &checksum, CHECKSUM);
}

xf_status xf_session_save(const char *path, const xf_model *model, const xf_session *session,
                          xf_error *error)
{
  if (!path || !model || !session)
    return xf_fail(error, XF_E_ARGUMENT, "xf_session_save: path, model and session must be given");
  xf_session s;
  xf_status status = xf_options_read("xf_session", session, &s, sizeof s, error);
  if (status) return status;
  if (s.n_tokens > XF_CACHE_MAX || (s.n_tokens && !s.tokens))
    return xf_fail(error, XF_E_ARGUMENT,
                   "xf_session_save: tokens must be given, at most %d; n_tokens is %zu",
                   XF_CACHE_MAX, s.n_tokens);
  status = check(path, model, &s, XF_E_ARGUMENT, error);
  if (status) return status;
  size_t bytes = sizeof(struct header) + s.n_tokens * sizeof *s.tokens + CHECKSUM;
  unsigned char *image = xf_alloc(bytes, 1);
  if (!image) return xf_file_no_memory(error, path);
  fill(image, model, &s);
  struct xf_new_file file;
  status = xf_new_file_create(path, &file, error);
  if (!status) {
    status = xf_new_file_write(&file, image, bytes, error);
    if (status)
      xf_new_file_discard(&file);
    else
      status = xf_new_file_commit(&file, error);
  }
  xf_free(image);
  return status;
}

static xf_status damaged(const char *path, const char *how, xf_error *error)
{
  return xf_fail(error, XF_E_FORMAT, "%s: %s", path, how);
}

static xf_status read_header(const char *path, const struct xf_file *file, const xf_model *model,
                             struct header *out, xf_error *error)
{
  const unsigned char *data = file->data;
  if (file->bytes < sizeof magic || memcmp(data, magic, sizeof magic) != 0)
    return damaged(path, "is no session file", error);
  if (file->bytes < sizeof *out + CHECKSUM)
    return damaged(path, "the session file is cut off", error);
  memcpy(out, data, sizeof *out);
  if (out->version != VERSION)
    return xf_fail(error, XF_E_FORMAT,
                   "%s: session file of version %lu; this program reads version %d", path,
                   (unsigned long)out->version, VERSION);
  if (out->n > XF_CACHE_MAX ||
      file->bytes != sizeof *out + (size_t)out->n * sizeof(int32_t) + CHECKSUM)
    return damaged(path, "the session file is cut off, or its length is damaged", error);
  size_t end = file->bytes - CHECKSUM;
  uint64_t checksum = xf_fnv(XF_FNV_BEGIN, data, end);
  if (memcmp(data + end, &checksum, CHECKSUM) != 0)
    return damaged(path, "the session file is damaged: its checksum is wrong", error);
  if (out->fingerprint != fingerprint(model))
    return damaged(path, "the session was made with another model", error);
  if (out->numerics != xf_numerics_version())
    return xf_fail(error, XF_E_FORMAT, "%s: the session was made with numerics %lu; this is %lu",
                   path, (unsigned long)out->numerics, (unsigned long)xf_numerics_version());
  return XF_OK;
}

static xf_status read_session(const char *path, const struct xf_file *file, const xf_model *model,
                              xf_session *out, xf_error *error)
{
  struct header header;
  xf_status status = read_header(path, file, model, &header, error);
  if (status) return status;
  size_t n = (size_t)header.n;
  out->tokens = xf_alloc(n, sizeof *out->tokens);
  if (!out->tokens) return xf_fail(error, XF_E_MEMORY, "%s: out of memory for %zu tokens", path, n);
  memcpy(out->tokens, file->data + sizeof header, n * sizeof *out->tokens);
  out->n_tokens = n;
  out->seed = header.seed;
  out->format = (xf_chat_format)header.format;
  out->cut = header.cut != 0;
  return check(path, model, out, XF_E_FORMAT, error);
}

xf_status xf_session_load(const char *path, const xf_model *model, xf_session *out, xf_error *error)
{
  if (!path || !model || !out || out->struct_size != sizeof *out)
    return xf_fail(error, XF_E_ARGUMENT,
                   "xf_session_load: path, model and out with its struct_size must be given");
  xf_session_free(memset(out, 0, sizeof *out));
  struct xf_file file;
  xf_status status = xf_file_map(path, &file, error);
  if (status) return status;
  status = read_session(path, &file, model, out, error);
  xf_file_unmap(&file);
  if (status) xf_session_free(out);
  return status;
}

void xf_session_free(xf_session *session)
{
  if (!session) return;
  xf_free(session->tokens);
  *session = (xf_session){.struct_size = sizeof *session};
}
