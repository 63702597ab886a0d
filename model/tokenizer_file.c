#include "model/tokenizer_file.h"

#include <string.h>

#include "dispatch/error.h"
#include "dispatch/memory.h"
#include "model/sentencepiece.h"
#include "model/tflite.h"

enum kind { SENTENCEPIECE, JSON, GGUF };

/* By its name, and where that says nothing by what it begins with. */
static xf_status find_kind(const char *path, enum kind *kind, xf_error *error)
{
  *kind = xf_path_ends_in(path, ".gguf")   ? GGUF
          : xf_path_ends_in(path, ".json") ? JSON
                                           : SENTENCEPIECE;
  if (*kind != SENTENCEPIECE || xf_path_ends_in(path, ".model")) return XF_OK;
  struct xf_file file;
  xf_status status = xf_file_map(path, &file, error);
  if (status != XF_OK) return status;
  if (xf_gguf_begins(&file)) *kind = GGUF;
  if (file.bytes > 0 && file.data[0] == '{') *kind = JSON;
  xf_file_unmap(&file);
  return XF_OK;
}

/* What all readers end in: status is that of filling the list, which is freed. */
static xf_status build(const char *path, xf_status status, struct xf_token_list *list,
                       struct xf_tokenizer *tokenizer, xf_error *error)
{
  if (status == XF_OK) status = xf_vocabulary_build(path, list, tokenizer, error);
  xf_token_list_free(list);
  return status;
}

static xf_status read_sentencepiece(const char *path, struct xf_tokenizer *tokenizer,
                                    xf_error *error)
{
  struct xf_file file;
  xf_status status = xf_file_map(path, &file, error);
  if (status != XF_OK) return status;
  struct xf_token_list list = {0};
  if (file.bytes > XF_TEXT_LIMIT)
    status = xf_fail(error, XF_E_UNSUPPORTED, "%s: larger than 1 GiB: no tokenizer.model", path);
  else
    status = xf_sentencepiece_parse(path, file.data, file.bytes, &list, error);
  status = build(path, status, &list, tokenizer, error);
  xf_file_unmap(&file);
  return status;
}

/* *config stays NULL where there is none. */
static xf_status read_config(const char *path, cJSON **config, xf_error *error)
{
  static const char name[] = "tokenizer_config.json";
  const char *slash = strrchr(path, '/');
  size_t folder = slash ? (size_t)(slash - path) + 1 : 0;
  char *beside = xf_alloc(folder + sizeof name, 1);
  if (!beside) return xf_file_no_memory(error, path);
  memcpy(beside, path, folder);
  memcpy(beside + folder, name, sizeof name);
  xf_status status = xf_path_exists(beside) ? xf_json_read(beside, config, error) : XF_OK;
  xf_free(beside);
  return status;
}

static xf_status read_json(const char *path, struct xf_tokenizer *tokenizer, xf_error *error)
{
  cJSON *json, *config = NULL;
  xf_status status = xf_json_read(path, &json, error);
  if (status != XF_OK) return status;
  struct xf_token_list list = {0};
  status = read_config(path, &config, error);
  if (status == XF_OK) status = xf_tokenizer_json_list(path, json, config, &list, error);
  status = build(path, status, &list, tokenizer, error);
  cJSON_Delete(config);
  cJSON_Delete(json);
  return status;
}

static xf_status read_gguf(const char *path, struct xf_tokenizer *tokenizer, xf_error *error)
{
  struct xf_gguf gguf;
  xf_status status = xf_gguf_open(path, &gguf, error);
  if (status != XF_OK) return status;
  struct xf_token_list list = {0};
  status = xf_tokenizer_gguf_list(&gguf, &list, error);
  status = build(path, status, &list, tokenizer, error);
  xf_gguf_close(&gguf);
  return status;
}

static xf_status read_file(const char *path, struct xf_tokenizer *tokenizer, xf_error *error)
{
  enum kind kind;
  xf_status status = find_kind(path, &kind, error);
  if (status != XF_OK) return status;
  switch (kind) {
  case JSON: return read_json(path, tokenizer, error);
  case GGUF: return read_gguf(path, tokenizer, error);
  default: return read_sentencepiece(path, tokenizer, error);
  }
}

/* The first of two that is there. */
xf_status xf_tokenizer_find(const char *folder, char **out, xf_error *error)
{
  static const char *const names[] = {"tokenizer.model", "tokenizer.json"};
  *out = NULL;
  for (size_t i = 0; i < 2; i++) {
    *out = xf_path_join(folder, names[i]);
    if (!*out) return xf_file_no_memory(error, folder);
    if (xf_path_exists(*out)) return XF_OK;
    xf_free(*out);
    *out = NULL;
  }
  return XF_OK;
}

static xf_status read_folder(const char *path, struct xf_tokenizer *tokenizer, xf_error *error)
{
  char *file;
  xf_status status = xf_tokenizer_find(path, &file, error);
  if (status) return status;
  if (!file)
    return xf_fail(error, XF_E_FILE, "%s: holds neither tokenizer.model nor tokenizer.json", path);
  status = read_file(file, tokenizer, error);
  xf_free(file);
  return status;
}

/* A .tflite file's lies beside it. */
static xf_status read_beside(const char *path, struct xf_tokenizer *tokenizer, xf_error *error)
{
  const char *slash = strrchr(path, '/');
  size_t bytes = slash ? (size_t)(slash - path) + 1 : 0;
  char *folder = xf_alloc(bytes + 2, 1);
  if (!folder) return xf_file_no_memory(error, path);
  memcpy(folder, path, bytes);
  memcpy(folder + bytes, slash ? "" : ".", slash ? 1 : 2);
  xf_status status = read_folder(folder, tokenizer, error);
  xf_free(folder);
  return status;
}

xf_status xf_tokenizer_file_read(const char *path, struct xf_tokenizer *tokenizer, xf_error *error)
{
  if (xf_path_is_folder(path)) return read_folder(path, tokenizer, error);
  return xf_tflite_is_path(path) ? read_beside(path, tokenizer, error)
                                 : read_file(path, tokenizer, error);
}
