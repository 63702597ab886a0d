#include "model/naming.h"

#include <stdio.h>
#include <string.h>

#include "model/config.h"

static const char *const hugging_face_names[XF_ROLES] = {[XF_EMBEDDING] = "model.embed_tokens",
                                                         [XF_FINAL_NORM] = "model.norm",
                                                         [XF_HEAD] = "lm_head",
                                                         [XF_ATTENTION_NORM] = "input_layernorm",
                                                         [XF_Q] = "self_attn.q_proj",
                                                         [XF_K] = "self_attn.k_proj",
                                                         [XF_V] = "self_attn.v_proj",
                                                         [XF_O] = "self_attn.o_proj",
                                                         [XF_MLP_NORM] = "post_attention_layernorm",
                                                         [XF_GATE] = "mlp.gate_proj",
                                                         [XF_UP] = "mlp.up_proj",
                                                         [XF_DOWN] = "mlp.down_proj"};

const struct xf_naming xf_naming_hugging_face = {
    .layers = "model.layers.",
    .names = hugging_face_names,
    .config = "config.json",
    .layer_count = "config.json's num_hidden_layers",
};

static const char *const gguf_names[XF_ROLES] = {[XF_EMBEDDING] = "token_embd",
                                                 [XF_FINAL_NORM] = "output_norm",
                                                 [XF_HEAD] = "output",
                                                 [XF_ATTENTION_NORM] = "attn_norm",
                                                 [XF_Q] = "attn_q",
                                                 [XF_K] = "attn_k",
                                                 [XF_V] = "attn_v",
                                                 [XF_O] = "attn_output",
                                                 [XF_MLP_NORM] = "ffn_norm",
                                                 [XF_GATE] = "ffn_gate",
                                                 [XF_UP] = "ffn_up",
                                                 [XF_DOWN] = "ffn_down"};

const struct xf_naming xf_naming_gguf = {
    .layers = "blk.",
    .names = gguf_names,
    .paired = true,
    .rope_factors = "rope_freqs.weight",
    .config = "its metadata",
    .layer_count = "its llama.block_count",
};

/* The files name tensors in ways of their own; the roles are found in their graphs. */
const struct xf_naming xf_naming_tflite = {
    .layers = "model.layers.",
    .names = hugging_face_names,
    .rope_table = "rope.inv_freq",
    .config = "its graph",
    .layer_count = "its graph",
};

void xf_tensor_name(const struct xf_naming *naming, enum xf_role role, size_t layer,
                    const char *suffix, char name[static XF_MAX_NAME])
{
  char prefix[XF_MAX_NAME / 2] = "";
  if (role >= XF_ATTENTION_NORM) snprintf(prefix, sizeof prefix, "%s%zu.", naming->layers, layer);
  snprintf(name, XF_MAX_NAME, "%s%s%s", prefix, naming->names[role], suffix);
}

void xf_tensor_shape(const struct xf_config *c, enum xf_role role, size_t shape[static 2])
{
  size_t q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim, h = c->hidden;
  const size_t shapes[XF_ROLES][2] = {[XF_EMBEDDING] = {c->vocab, h},
                                      [XF_FINAL_NORM] = {h, 0},
                                      [XF_HEAD] = {c->vocab, h},
                                      [XF_ATTENTION_NORM] = {h, 0},
                                      [XF_Q] = {q, h},
                                      [XF_K] = {kv, h},
                                      [XF_V] = {kv, h},
                                      [XF_O] = {h, q},
                                      [XF_MLP_NORM] = {h, 0},
                                      [XF_GATE] = {c->intermediate, h},
                                      [XF_UP] = {c->intermediate, h},
                                      [XF_DOWN] = {h, c->intermediate}};
  memcpy(shape, shapes[role], sizeof shapes[role]);
}
