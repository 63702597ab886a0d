#include "model/model.h"

#include <string.h>

#include "dispatch/error.h"
#include "dispatch/memory.h"
#include "dispatch/options.h"
#include "dispatch/views.h"
#include "model/file.h"
#include "model/workspace.h"

enum { DEFAULT_CHUNK = 512, CHUNK_MAX = 1 << 16, Q_BLOCK_MAX = 1 << 16 };

static xf_status read_options(const xf_model_options *given, xf_model_options *options,
                              xf_error *error)
{
  xf_status status = xf_options_read("xf_model_options", given, options, sizeof *options, error);
  if (status) return status;
  if (options->attention < XF_ATTENTION_FLASH || options->attention > XF_ATTENTION_PLANNED)
    return xf_fail(error, XF_E_ARGUMENT,
                   "xf_model_options: attention %d is none of flash, standard, planned",
                   (int)options->attention);
  if (options->split < XF_SPLIT_AUTO || options->split > XF_SPLIT_ALWAYS)
    return xf_fail(error, XF_E_ARGUMENT,
                   "xf_model_options: split %d is none of auto, never, always",
                   (int)options->split);
  if (options->activations != XF_ACTIVATIONS_INT8 && options->activations != XF_ACTIVATIONS_F32)
    return xf_fail(error, XF_E_ARGUMENT,
                   "xf_model_options: activations %d are neither int8 nor f32",
                   (int)options->activations);
  if (options->chunk > CHUNK_MAX || options->q_block > Q_BLOCK_MAX)
    return xf_fail(error, XF_E_ARGUMENT, "xf_model_options: chunk %u and q_block %u; at most %d",
                   options->chunk, options->q_block, CHUNK_MAX);
  if (options->cache_type == 0) options->cache_type = XF_F32;
  if (!xf_type_is_among(options->cache_type, XF_KV_TYPES))
    return xf_fail(error, XF_E_ARGUMENT,
                   "xf_model_options: cache_type %s is none of f32, f16, bf16, i8",
                   xf_type_name(options->cache_type));
  return XF_OK;
}

/* Where the options leave it to the file. */
static void follow_plan(xf_model *model)
{
  const xf_plan *plan = &model->config.plan;
  xf_model_options *options = &model->options;
  if (options->attention == XF_ATTENTION_PLANNED) options->attention = plan->attention;
  if (options->chunk) return;
  size_t n = plan->n_prefill_seq_lens;
  model->planned_chunks = n > 0;
  options->chunk = n ? plan->prefill_seq_lens[n - 1] : DEFAULT_CHUNK;
}

static xf_status model_load(xf_model *model, const char *path, xf_error *error)
{
  model->idle = xf_alloc_zeroed(1, sizeof *model->idle);
  if (!model->idle) return xf_file_no_memory(error, path);
  pthread_mutex_init(&model->idle->lock, NULL);
  struct xf_checkpoint *checkpoint;
  xf_status status = xf_checkpoint_open(path, &model->config, &checkpoint, error);
  if (status) return status;
  follow_plan(model);
  return xf_weights_load(model->context, &model->config, checkpoint, model->options.progress,
                         model->options.progress_arg, &model->weights, error);
}

xf_status xf_model_open(const xf_context *context, const char *path,
                        const xf_model_options *options, xf_model **out, xf_error *error)
{
  if (!context || !path || !out)
    return xf_fail(error, XF_E_ARGUMENT, "xf_model_open: context, path or out is NULL");
  *out = NULL;
  xf_model *model = xf_alloc_zeroed(1, sizeof *model);
  if (!model) return xf_file_no_memory(error, path);
  model->context = context;
  xf_status status = read_options(options, &model->options, error);
  xf_fp_state caller = xf_fp_enter(); /* what is computed once is computed under numerics 1, too */
  if (!status) status = model_load(model, path, error);
  xf_fp_leave(caller);
  if (status)
    xf_model_close(model);
  else
    *out = model;
  return status;
}

void xf_model_close(xf_model *model)
{
  if (!model) return;
  xf_weights_free(&model->weights);
  if (model->idle) {
    for (struct xf_workspace *w = model->idle->first, *next; w; w = next) {
      next = w->next;
      xf_workspace_free(w);
    }
    pthread_mutex_destroy(&model->idle->lock);
    xf_free(model->idle);
  }
  xf_free(model);
}

void xf_model_get_info(const xf_model *model, xf_model_info *info)
{
  const struct xf_config *c = &model->config;
  static const char *const scalings[] = {[XF_ROPE_NONE] = "none",
                                         [XF_ROPE_LINEAR] = "linear",
                                         [XF_ROPE_LLAMA3] = "llama3",
                                         [XF_ROPE_FACTORS] = "factors",
                                         [XF_ROPE_TABLE] = "table"};
  *info = (xf_model_info){
      .hidden_size = (uint32_t)c->hidden,
      .intermediate_size = (uint32_t)c->intermediate,
      .layers = (uint32_t)c->layers,
      .heads = (uint32_t)c->heads,
      .kv_heads = (uint32_t)c->kv_heads,
      .head_dim = (uint32_t)c->head_dim,
      .vocab_size = (uint32_t)c->vocab,
      .max_position_embeddings = (uint32_t)c->max_positions,
      .rms_norm_eps = c->rms_eps,
      .rope_theta = c->rope.theta,
      .rope_scaling = scalings[c->rope.type],
      .tied_embeddings = c->tied,
      .bos_token_id = c->bos,
      .n_eos_token_ids = (uint32_t)c->n_eos,
      .weight_type = model->weights.type,
      .parameters = model->weights.parameters,
  };
  info->n_types = (uint32_t)xf_weights_types(&model->weights, info->types);
  for (size_t i = 0; i < info->n_types; i++) info->weight_bytes += info->types[i].bytes;
  memcpy(info->eos_token_ids, c->eos, sizeof info->eos_token_ids);
}

void xf_model_get_plan(const xf_model *model, xf_plan *plan)
{
  *plan = model->config.plan;
}
