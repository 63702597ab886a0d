/* exactflash info: the model, the tokenizer and the machine. */
#include <stdio.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/json.h"
#include "cli/report.h"
#include "cli/session.h"

static int json;

static const struct xf_cli_option options[] = {
    {"--json", NULL, NULL, "print one object", XF_CLI_SWITCH, &json, 0, 0}, {0}};

/* Name, parameters and bytes of each type that weights have in memory. */
static bool add_types(cJSON *model, const xf_model_info *info)
{
  cJSON *types = cJSON_AddArrayToObject(model, "weight_types");
  bool complete = types != NULL;
  for (uint32_t i = 0; i < info->n_types && complete; i++) {
    cJSON *o = cJSON_CreateObject();
    complete = cJSON_AddItemToArray(types, o) &&
               xf_cli_json_word(o, "type", xf_type_name(info->types[i].type)) &&
               xf_cli_json_number(o, "parameters", (double)info->types[i].parameters) &&
               xf_cli_json_number(o, "bytes", (double)info->types[i].bytes);
  }
  return complete;
}

static bool add_model(cJSON *root, const struct xf_cli_session *s)
{
  const xf_model_info *info = &s->info;
  cJSON *o = cJSON_AddObjectToObject(root, "model");
  return xf_cli_json_word(o, "path", s->path) &&
         xf_cli_json_number(o, "parameters", (double)info->parameters) &&
         xf_cli_json_word(o, "weight_type", xf_type_name(info->weight_type)) &&
         add_types(o, info) && xf_cli_json_number(o, "layers", info->layers) &&
         xf_cli_json_number(o, "hidden_size", info->hidden_size) &&
         xf_cli_json_number(o, "intermediate_size", info->intermediate_size) &&
         xf_cli_json_number(o, "heads", info->heads) &&
         xf_cli_json_number(o, "kv_heads", info->kv_heads) &&
         xf_cli_json_number(o, "head_dim", info->head_dim) &&
         xf_cli_json_number(o, "vocab_size", info->vocab_size) &&
         xf_cli_json_number(o, "max_position_embeddings", info->max_position_embeddings) &&
         xf_cli_json_float(o, "rms_norm_eps", info->rms_norm_eps) &&
         xf_cli_json_number(o, "rope_theta", info->rope_theta) &&
         xf_cli_json_word(o, "rope_scaling", info->rope_scaling) &&
         cJSON_AddBoolToObject(o, "tied_embeddings", info->tied_embeddings) &&
         xf_cli_json_number(o, "bos_token_id", info->bos_token_id) &&
         xf_cli_json_ids(o, "eos_token_ids", info->eos_token_ids, info->n_eos_token_ids);
}

/* Nothing where the file has no plan. */
static bool add_plan(cJSON *root, const struct xf_cli_session *s)
{
  xf_plan plan;
  xf_model_get_plan(s->model, &plan);
  if (plan.kv_cache_max_len == 0) return true;
  cJSON *o = cJSON_AddObjectToObject(root, "plan");
  cJSON *lengths = cJSON_AddArrayToObject(o, "prefill_seq_lens");
  bool complete = lengths != NULL;
  for (uint32_t i = 0; complete && i < plan.n_prefill_seq_lens; i++)
    complete = cJSON_AddItemToArray(lengths, cJSON_CreateNumber(plan.prefill_seq_lens[i]));
  return complete && xf_cli_json_number(o, "kv_cache_max_len", plan.kv_cache_max_len) &&
         xf_cli_json_word(o, "attention",
                          plan.attention == XF_ATTENTION_FLASH ? "flash" : "standard");
}

/* A model without a tokenizer can still give logits: "error" then says what is wrong. */
static bool add_tokenizer(cJSON *root, const struct xf_cli_session *s)
{
  xf_error error = {0};
  xf_tokenizer *tokenizer;
  cJSON *o = cJSON_AddObjectToObject(root, "tokenizer");
  if (xf_tokenizer_open(s->path, &tokenizer, &error))
    return xf_cli_json_word(o, "error", error.message);
  bool complete = xf_cli_json_number(o, "vocab_size", (double)xf_tokenizer_vocab_size(tokenizer)) &&
                  xf_cli_json_number(o, "bos_token_id", xf_tokenizer_bos(tokenizer)) &&
                  xf_cli_json_number(o, "eos_token_id", xf_tokenizer_eos(tokenizer));
  xf_tokenizer_close(tokenizer);
  return complete;
}

static bool add_machine(cJSON *root, const struct xf_cli_session *s)
{
  cJSON *o = cJSON_AddObjectToObject(root, "machine");
  bool complete = xf_cli_json_word(o, "isa", xf_context_isa(s->context));
  const char *fast = xf_context_fast(s->context);
  complete = complete && xf_cli_json_word(o, "fast", fast ? fast : "none");
  cJSON *isas = cJSON_AddArrayToObject(o, "isas");
  for (size_t i = 0; complete && xf_isa_name(i); i++)
    if (xf_isa_supported(i))
      complete = cJSON_AddItemToArray(isas, cJSON_CreateString(xf_isa_name(i)));
  cJSON *tuned = cJSON_AddArrayToObject(o, "tuned_q_blocks");
  for (size_t i = 0; complete && i < XF_Q_BLOCK_CLASSES; i++)
    complete = cJSON_AddItemToArray(tuned, cJSON_CreateNumber(xf_cli_q_blocks()[i]));
  return complete && xf_cli_json_number(o, "threads", xf_context_threads(s->context)) &&
         xf_cli_json_number(o, "numerics", xf_numerics_version());
}

static bool add_memory(cJSON *root, const struct xf_cli_session *s)
{
  const xf_model_info *info = &s->info;
  double number = (double)xf_type_size(xf_cli_cache_type());
  double scale = xf_cli_cache_type() == XF_I8 ? sizeof(float) : 0; /* of a head's row */
  double row = number * info->head_dim + scale;
  double position = 2.0 * row * info->layers * info->kv_heads;
  cJSON *o = cJSON_AddObjectToObject(root, "memory");
  return xf_cli_json_number(o, "weight_bytes", (double)info->weight_bytes) &&
         xf_cli_json_word(o, "kv_type", xf_type_name(xf_cli_cache_type())) &&
         xf_cli_json_number(o, "kv_bytes_per_position", position) &&
         xf_cli_json_number(o, "kv_capacity", (double)xf_cache_capacity(s->cache)) &&
         xf_cli_json_number(o, "peak_rss_bytes", xf_cli_peak_rss_bytes());
}

static int print_text(cJSON *root, bool complete)
{
  for (const cJSON *part = root ? root->child : NULL; complete && part; part = part->next) {
    printf("%s\n", part->string);
    for (const cJSON *fact = part->child; complete && fact; fact = fact->next) {
      char *value = cJSON_PrintUnformatted(fact);
      complete = value != NULL;
      if (complete) printf("  %-24s %s\n", fact->string, value);
      cJSON_free(value);
    }
  }
  cJSON_Delete(root);
  return complete ? xf_cli_flush() : xf_cli_fail("out of memory for the output");
}

static int run(void)
{
  struct xf_cli_session session;
  int code = xf_cli_session_open(&session);
  if (!code) {
    cJSON *root = cJSON_CreateObject();
    bool complete = add_model(root, &session) && add_plan(root, &session) &&
                    add_tokenizer(root, &session) && add_machine(root, &session) &&
                    add_memory(root, &session);
    code = json ? xf_cli_json_print(root, complete) : print_text(root, complete);
  }
  xf_cli_session_close(&session);
  return code;
}

const struct xf_cli_command xf_cli_info = {
    .name = "info",
    .summary = "describe a model and this machine",
    .description =
        "Prints the shape of a model, its tokenizer, the instruction sets that this CPU can run\n"
        "and which one is used, the threads, and memory in bytes; with --fast, which instructions\n"
        "fast mode has here (\"none\": results are exact all the same).",
    .examples = "  exactflash info\n"
                "  exactflash info -m tinyllama --json\n"
                "  exactflash info --cache-type bf16\n"
                "  exactflash info --isa scalar --threads 1\n",
    .tables = {options, xf_cli_model_options, xf_cli_run_options, xf_cli_machine_options},
    .run = run};
