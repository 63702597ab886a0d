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
 * FNV-1a (Fowler, Noll & Vo) finds any change of one byte, and misses others with a probability of
 * 2⁻⁶⁴. */
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "dispatch/error.h"
#include "dispatch/memory.h"
#include "exactflash/chat.h"
#include "model/file.h"
#include "model/model.h"
#include "model/new_file.h"

static const char magic[8] = "exfl-ses";
enum { VERSION = 1, HEADER = 48, CHECKSUM = 8 };

static uint64_t hash(uint64_t h, const void *data, size_t bytes)
{
  const unsigned char *p = data;
  for (size_t i = 0; i < bytes; i++) h = (h ^ p[i]) * 0x100000001B3u;
  return h;
}

static uint64_t hash_begin(void)
{
  return 0xCBF29CE484222325u;
}

static uint64_t hash_number(uint64_t h, uint64_t number)
{
  return hash(h, &number, sizeof number);
}

static uint64_t hash_double(uint64_t h, double number)
{
  return hash(h, &number, sizeof number);
}

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
  uint64_t h = hash_begin();
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) h = hash_number(h, sizes[i]);
  for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) h = hash_double(h, settings[i]);
  return hash(h, model->weights.norm, c->hidden * sizeof(float));
}

static void put(unsigned char *to, uint64_t value, size_t bytes)
{
  for (size_t i = 0; i < bytes; i++) to[i] = (unsigned char)(value >> 8 * i);
}

static void fill(unsigned char *file, const xf_model *model, const xf_session *s)
{
  memcpy(file, magic, sizeof magic);
  put(file + 8, VERSION, 4);
  put(file + 12, (uint64_t)s->format, 4);
  put(file + 16, fingerprint(model), 8);
  put(file + 24, s->seed, 8);
  put(file + 32, s->cut != 0, 4);
  put(file + 36, xf_numerics_version(), 4);
  put(file + 40, s->n_tokens, 8);
  size_t end = HEADER + 4 * s->n_tokens;
  for (size_t i = 0; i < s->n_tokens; i++) put(file + HEADER + 4 * i, (uint32_t)s->tokens[i], 4);
  put(file + end, hash(hash_begin(), file, end), CHECKSUM);
}

xf_status xf_session_save(const char *path, const xf_model *model, const xf_session *session,
                          xf_error *error)
{
  if (!path || !model || !session || (session->n_tokens && !session->tokens))
    return xf_fail(error, XF_E_ARGUMENT, "xf_session_save: path, model and session must be given");
  if (session->struct_size != sizeof *session || session->n_tokens > XF_CACHE_MAX)
    return xf_fail(error, XF_E_ARGUMENT,
                   "xf_session: struct_size %zu, n_tokens %zu; set struct_size to sizeof",
                   session->struct_size, session->n_tokens);
  size_t bytes = HEADER + 4 * session->n_tokens + CHECKSUM;
  unsigned char *image = xf_alloc(bytes, 1);
  if (!image) return xf_file_no_memory(error, path);
  fill(image, model, session);
  struct xf_new_file file;
  xf_status status = xf_new_file_create(path, &file, error);
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

static xf_status check(const char *path, const struct xf_file *file, const xf_model *model,
                       xf_error *error)
{
  const unsigned char *data = file->data;
  if (file->bytes < sizeof magic || memcmp(data, magic, sizeof magic) != 0)
    return damaged(path, "is no session file", error);
  if (file->bytes < HEADER + CHECKSUM) return damaged(path, "the session file is cut off", error);
  if (xf_load_le(data + 8, 4) != VERSION)
    return xf_fail(error, XF_E_FORMAT,
                   "%s: session file of version %lu; this program reads version %d", path,
                   (unsigned long)xf_load_le(data + 8, 4), VERSION);
  uint64_t n = xf_load_le(data + 40, 8);
  if (n > XF_CACHE_MAX || file->bytes != HEADER + 4 * (size_t)n + CHECKSUM)
    return damaged(path, "the session file is cut off, or its length is damaged", error);
  size_t end = file->bytes - CHECKSUM;
  if (xf_load_le(data + end, CHECKSUM) != hash(hash_begin(), data, end))
    return damaged(path, "the session file is damaged: its checksum is wrong", error);
  if (xf_load_le(data + 16, 8) != fingerprint(model))
    return damaged(path, "the session was made with another model", error);
  if (xf_load_le(data + 36, 4) != xf_numerics_version())
    return xf_fail(error, XF_E_FORMAT, "%s: the session was made with numerics %lu; this is %lu",
                   path, (unsigned long)xf_load_le(data + 36, 4),
                   (unsigned long)xf_numerics_version());
  return XF_OK;
}

static xf_status read_tokens(const char *path, const unsigned char *data, const xf_model *model,
                             xf_session *out, xf_error *error)
{
  out->n_tokens = (size_t)xf_load_le(data + 40, 8);
  out->tokens = xf_alloc(out->n_tokens, sizeof *out->tokens);
  if (!out->tokens)
    return xf_fail(error, XF_E_MEMORY, "%s: out of memory for %zu tokens", path, out->n_tokens);
  for (size_t i = 0; i < out->n_tokens; i++) {
    uint64_t token = xf_load_le(data + HEADER + 4 * i, 4);
    if (token >= model->config.vocab)
      return xf_fail(error, XF_E_FORMAT, "%s: token %zu of the session is not in the vocabulary",
                     path, i);
    out->tokens[i] = (int32_t)token;
  }
  return XF_OK;
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
  status = check(path, &file, model, error);
  if (!status) status = read_tokens(path, file.data, model, out, error);
  if (!status) {
    out->seed = xf_load_le(file.data + 24, 8);
    out->format = (xf_chat_format)xf_load_le(file.data + 12, 4);
    out->cut = xf_load_le(file.data + 32, 4) != 0;
    if (out->format && !xf_chat_format_name(out->format))
      status = damaged(path, "the session has an unknown chat format", error);
  }
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
