#include "model/checkpoint.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "dispatch/error.h"
#include "dispatch/memory.h"
#include "dispatch/quant.h"
#include "model/gguf.h"
#include "model/json.h"
#include "model/safetensors.h"
#include "model/tflite_tensors.h"

static const char *const SINGLE = "model.safetensors";
static const char *const INDEX = "model.safetensors.index.json";

struct xf_checkpoint {
  char *place; /* the folder or GGUF file, for messages */
  const struct xf_naming *naming;
  /* The files; their lists of tensors have been moved to this one's. */
  struct xf_gguf gguf;     /* empty where the checkpoint is another */
  struct xf_tflite tflite; /* likewise, with the names of its tensors */
  char *tflite_names;
  struct xf_safetensors *files; /* [n_files] */
  size_t n_files;
  struct xf_tensor *tensors; /* [n], by name */
  size_t n;
};

static xf_status open_single(struct xf_checkpoint *checkpoint, xf_error *error)
{
  struct xf_safetensors *file = checkpoint->files = xf_alloc_zeroed(1, sizeof *file);
  if (!file) return xf_file_no_memory(error, checkpoint->place);
  xf_status status = xf_safetensors_open(checkpoint->place, SINGLE, file, error);
  if (status != XF_OK) return status;
  checkpoint->n_files = 1;
  checkpoint->tensors = file->tensors;
  checkpoint->n = file->n;
  file->tensors = NULL;
  return XF_OK;
}

/* The shard of that name, opened when it is named for the first time. */
static xf_status need_shard(struct xf_checkpoint *checkpoint, const char *index, const char *name,
                            struct xf_safetensors **out, xf_error *error)
{
  for (size_t i = 0; i < checkpoint->n_files; i++) {
    *out = &checkpoint->files[i];
    if (strcmp((*out)->name, name) == 0) return XF_OK;
  }
  if (!*name || strchr(name, '/') || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
    return xf_fail(error, XF_E_FORMAT,
                   "%s: weight_map may name only files of its own folder, not \"%s\"", index, name);
  *out = &checkpoint->files[checkpoint->n_files];
  xf_status status = xf_safetensors_open(checkpoint->place, name, *out, error);
  checkpoint->n_files += status == XF_OK;
  return status;
}

/* Adds the tensor that one line of weight_map names. */
static xf_status add_mapped(struct xf_checkpoint *checkpoint, const char *index, const cJSON *line,
                            xf_error *error)
{
  if (!cJSON_IsString(line))
    return xf_fail(error, XF_E_FORMAT, "%s: weight_map must name a file for tensor %s", index,
                   line->string);
  struct xf_safetensors *shard = NULL;
  xf_status status = need_shard(checkpoint, index, line->valuestring, &shard, error);
  if (status != XF_OK) return status;
  const struct xf_tensor *tensor = xf_tensor_find(shard->tensors, shard->n, line->string);
  if (!tensor)
    return xf_fail(error, XF_E_FORMAT, "%s: lacks a tensor that %s expects in it: %s", shard->path,
                   INDEX, line->string);
  checkpoint->tensors[checkpoint->n++] = *tensor;
  return XF_OK;
}

/* Tensors that weight_map does not name are left out. */
static xf_status open_mapped(struct xf_checkpoint *checkpoint, const char *index, const cJSON *map,
                             xf_error *error)
{
  if (!cJSON_IsObject(map) || !map->child)
    return xf_fail(error, XF_E_FORMAT, "%s: weight_map must map tensor names to files", index);
  size_t n = (size_t)cJSON_GetArraySize(map);
  checkpoint->files = xf_alloc_zeroed(n, sizeof *checkpoint->files);
  checkpoint->tensors = xf_alloc_zeroed(n, sizeof *checkpoint->tensors);
  if (!checkpoint->files || !checkpoint->tensors)
    return xf_file_no_memory(error, checkpoint->place);
  const cJSON *line;
  cJSON_ArrayForEach(line, map)
  {
    xf_status status = add_mapped(checkpoint, index, line, error);
    if (status != XF_OK) return status;
  }
  qsort(checkpoint->tensors, checkpoint->n, sizeof *checkpoint->tensors, xf_tensor_compare);
  for (size_t i = 0; i < checkpoint->n_files; i++) {
    xf_free(checkpoint->files[i].tensors);
    checkpoint->files[i].tensors = NULL;
  }
  return XF_OK;
}

static xf_status open_index(struct xf_checkpoint *checkpoint, const char *path, xf_error *error)
{
  cJSON *index;
  xf_status status = xf_json_read(path, &index, error);
  if (status != XF_OK) return status;
  const cJSON *map = cJSON_GetObjectItemCaseSensitive(index, "weight_map");
  status = open_mapped(checkpoint, path, map, error);
  cJSON_Delete(index); /* the list's names are those of the shards' headers */
  return status;
}

static xf_status open_folder(struct xf_checkpoint *checkpoint, const char *folder,
                             struct xf_config *config, xf_error *error)
{
  xf_status status = config ? xf_config_read(folder, config, error) : XF_OK;
  if (status != XF_OK) return status;
  checkpoint->naming = &xf_naming_hugging_face;
  checkpoint->place = xf_path_join(folder, "");
  char *single = xf_path_join(folder, SINGLE), *index = xf_path_join(folder, INDEX);
  if (!checkpoint->place || !single || !index)
    status = xf_file_no_memory(error, folder);
  else if (xf_path_exists(single))
    status = open_single(checkpoint, error);
  else if (xf_path_exists(index))
    status = open_index(checkpoint, index, error);
  else
    status = xf_fail(error, XF_E_FILE,
                     "%s: has neither %s nor %s; weights in other formats must be converted",
                     folder, SINGLE, INDEX);
  xf_free(single);
  xf_free(index);
  return status;
}

static xf_status open_gguf(struct xf_checkpoint *checkpoint, const char *path,
                           struct xf_config *config, xf_error *error)
{
  struct xf_gguf *gguf = &checkpoint->gguf;
  checkpoint->naming = &xf_naming_gguf;
  xf_status status = xf_gguf_open(path, gguf, error);
  if (status == XF_OK && config) status = xf_config_read_gguf(gguf, config, error);
  if (status != XF_OK) return status;
  checkpoint->place = gguf->path;
  checkpoint->tensors = gguf->tensors;
  checkpoint->n = gguf->n_tensors;
  gguf->path = NULL;
  gguf->tensors = NULL;
  return XF_OK;
}

static xf_status open_tflite(struct xf_checkpoint *checkpoint, const char *path,
                             struct xf_config *config, xf_error *error)
{
  struct xf_tflite *tflite = &checkpoint->tflite;
  struct xf_tflite_tensors list;
  checkpoint->naming = &xf_naming_tflite;
  xf_status status = xf_tflite_open(path, tflite, error);
  if (status == XF_OK) status = xf_tflite_tensors_read(tflite, config, &list, error);
  if (status != XF_OK) return status;
  checkpoint->place = tflite->path;
  checkpoint->tensors = list.tensors;
  checkpoint->n = list.n;
  checkpoint->tflite_names = list.names;
  tflite->path = NULL;
  return XF_OK;
}

xf_status xf_checkpoint_open(const char *path, struct xf_config *config, struct xf_checkpoint **out,
                             xf_error *error)
{
  *out = NULL;
  if (!*path) return xf_fail(error, XF_E_FILE, "the path of the model is empty");
  struct xf_checkpoint *checkpoint = xf_alloc_zeroed(1, sizeof *checkpoint);
  if (!checkpoint) return xf_file_no_memory(error, path);
  xf_status status = xf_tflite_is_path(path) ? open_tflite(checkpoint, path, config, error)
                     : xf_gguf_is_path(path) ? open_gguf(checkpoint, path, config, error)
                                             : open_folder(checkpoint, path, config, error);
  if (status == XF_OK)
    *out = checkpoint;
  else
    xf_checkpoint_close(checkpoint);
  return status;
}

void xf_checkpoint_close(struct xf_checkpoint *checkpoint)
{
  if (!checkpoint) return;
  for (size_t i = 0; i < checkpoint->n_files; i++) xf_safetensors_close(&checkpoint->files[i]);
  xf_gguf_close(&checkpoint->gguf);
  xf_tflite_close(&checkpoint->tflite);
  xf_free(checkpoint->tflite_names);
  xf_free(checkpoint->files);
  xf_free(checkpoint->tensors);
  xf_free(checkpoint->place);
  xf_free(checkpoint);
}

const char *xf_checkpoint_place(const struct xf_checkpoint *checkpoint)
{
  return checkpoint->place;
}

const struct xf_gguf *xf_checkpoint_gguf(const struct xf_checkpoint *checkpoint)
{
  return checkpoint->gguf.file.data ? &checkpoint->gguf : NULL;
}

const struct xf_naming *xf_checkpoint_naming(const struct xf_checkpoint *checkpoint)
{
  return checkpoint->naming;
}

const struct xf_tensor *xf_checkpoint_find(const struct xf_checkpoint *checkpoint, const char *name)
{
  return xf_tensor_find(checkpoint->tensors, checkpoint->n, name);
}

/* Writes a shape as "[32000, 2048]", and of one with more than four sizes the first four. */
static void format_shape(const struct xf_tensor *tensor, char text[static 128])
{
  enum { CAPACITY = 128 };
  size_t used = (size_t)snprintf(text, CAPACITY, "[");
  for (size_t i = 0; i < xf_min(tensor->rank, 4); i++)
    used +=
        (size_t)snprintf(text + used, CAPACITY - used, "%s%zu", i ? ", " : "", tensor->shape[i]);
  snprintf(text + used, CAPACITY - used, "%s", tensor->rank > 4 ? ", …]" : "]");
}

xf_status xf_checkpoint_get(const struct xf_checkpoint *checkpoint, const char *name, size_t n,
                            size_t k, const struct xf_tensor **out, xf_error *error)
{
  const struct xf_tensor *tensor = xf_checkpoint_find(checkpoint, name);
  if (!tensor)
    return xf_fail(error, XF_E_FORMAT, "%s: the checkpoint has no tensor %s", checkpoint->place,
                   name);
  const struct xf_tensor expected = {.rank = k ? 2 : 1, .shape = {n, k}};
  if (tensor->rank != expected.rank || tensor->shape[0] != n || tensor->shape[1] != k) {
    char found[128], wanted[128];
    format_shape(tensor, found);
    format_shape(&expected, wanted);
    return xf_fail(error, XF_E_SHAPE, "%s: tensor %s has the shape %s, but %s needs %s",
                   tensor->path, name, found, checkpoint->naming->config, wanted);
  }
  bool is_float = tensor->type == XF_F32 || tensor->type == XF_F16 || tensor->type == XF_BF16;
  if (!is_float && !(k && (tensor->type == XF_I8 || xf_is_quant(tensor->type))))
    return xf_fail(error, XF_E_UNSUPPORTED, "%s: tensor %s: only F32, F16%s are supported, not %s",
                   tensor->path, name,
                   k ? ", BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K, Q6_K and I8"
                     : " and BF16",
                   tensor->dtype);
  *out = tensor;
  return XF_OK;
}

/* The whole pages that hold part of the tensor. Neighbours lose theirs too, and read them again. */
void xf_checkpoint_release(const struct xf_tensor *tensor)
{
  if (tensor->bytes == 0) return;
  uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
  uintptr_t begin = (uintptr_t)tensor->data / page * page;
  /* Only advice: where it fails, memory stays resident for longer. */
  madvise((void *)begin, (uintptr_t)tensor->data + tensor->bytes - begin, MADV_DONTNEED);
}

void xf_checkpoint_keep_only(struct xf_checkpoint *checkpoint, const struct xf_tensor *tensor)
{
  checkpoint->n = 0;
  for (size_t i = 0; i < checkpoint->n_files; i++)
    if (checkpoint->files[i].path != tensor->path) xf_safetensors_close(&checkpoint->files[i]);
}
