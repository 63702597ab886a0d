/* Writes small files to begin with: seeds FOLDER makes FOLDER/TARGET/… for every fuzz target. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "tests/model_support.h"
#include "tests/spm_writer.h"
#include "tests/support.h"
#include "tests/tflite_model.h"
#include "tests/tokenizer_writer.h"

static const char *root;

/* FOLDER/TARGET/NAME, its folder made; a static buffer. */
static const char *seed_path(const char *target, const char *name, size_t number)
{
  static char path[4096];
  snprintf(path, sizeof path, "%s/%s", root, target);
  mkdir(path, 0777);
  snprintf(path, sizeof path, "%s/%s/%s%zu", root, target, name, number);
  return path;
}

static void seed(const char *target, const char *name, size_t number, const void *data,
                 size_t bytes)
{
  write_file(seed_path(target, name, number), data, bytes);
}

static void copy(const char *folder, const char *file, const char *target, size_t number)
{
  char path[4096];
  size_t bytes;
  snprintf(path, sizeof path, "%s/%s", folder, file);
  unsigned char *data = read_file(path, &bytes);
  seed(target, file, number, data, bytes);
  free(data);
}

static void seed_tflite(const char *folder, size_t number)
{
  const struct tflite_model models[] = {
      {.cache = 4}, {.table = true, .cache = 4}, {.type = XF_I8, .outside = true, .cache = 4}};
  for (size_t i = 0; i < sizeof models / sizeof *models; i++)
    tflite_model_write(&models[i], folder, seed_path("tflite", "model", 3 * number + i));
}

/* Checkpoints: config, safetensors, gguf, tflite. */
static void seed_models(void)
{
  static const struct {
    xf_type type;
    bool tied;
    const char *extras;
  } kinds[] = {
      {XF_F32, false, NULL},
      {XF_BF16, true, "\"rope_scaling\": {\"rope_type\": \"linear\", \"factor\": 2.0}"},
      {XF_F16, false,
       "\"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8.0, \"low_freq_factor\": 1.0, "
       "\"high_freq_factor\": 4.0, \"original_max_position_embeddings\": 64}"},
      {XF_BF16, false, "\"rope_parameters\": {\"rope_type\": \"default\", \"rope_theta\": 5e5}"}};
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
    struct tiny_model tiny = tiny_model_smallest();
    tiny.type = kinds[i].type;
    tiny.tied = kinds[i].tied;
    tiny.extras = kinds[i].extras;
    char *folder = write_tiny_model(&tiny);
    copy(folder, "config.json", "config", i);
    copy(folder, "model.safetensors", "safetensors", i);
    if (!kinds[i].extras)
      convert_model(folder, seed_path("gguf", "model", i), (xf_convert_options){0});
    if (kinds[i].type != XF_BF16) seed_tflite(folder, i);
    free(folder);
  }
}

static void seed_gguf_tokenizers(void)
{
  static const char *const pre[] = {NULL, "gpt-2", "smollm", "llama-bpe", "qwen2", "none"};
  for (size_t i = 0; i < sizeof pre / sizeof *pre; i++)
    write_gguf(seed_path("gguf", "tokenizer", i), pre[i]);
}

static void seed_sentencepiece(void)
{
  static const char *const own[] = {"<tool>", "ab", NULL};
  const struct spm_options options[] = {{0},
                                        {.no_dummy_prefix = 1},
                                        {.remove_extra_whitespaces = 1},
                                        {.user_defined = own},
                                        {.normal = own}};
  for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
    struct message model = spm_model(&options[i]);
    seed("tokenizer_model", "spm", i, model.data, model.bytes);
    free(model.data);
  }
}

static void seed_json(void)
{
  static const struct json_parts parts[] = {
      {.merge_pairs = 0},
      {.merge_pairs = 1, .model = "\"ignore_merges\": true,"},
      {.normalizer = "{\"type\": \"NFC\"}",
       .pre_tokenizer =
           "{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Digits\", "
           "\"individual_digits\": true}, {\"type\": \"ByteLevel\", \"add_prefix_space\": false, "
           "\"trim_offsets\": true, \"use_regex\": true}]}"},
      {.added = ", {\"id\": 269, \"content\": \"<x>\", \"special\": true, \"normalized\": false, "
                "\"lstrip\": false, \"rstrip\": false, \"single_word\": false}"}};
  for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
    char *json = write_json(&parts[i]);
    seed("tokenizer_json", "json", i, json, strlen(json));
    free(json);
  }
}

static void seed_texts(void)
{
  static const char *const texts[] = {
      "hello hello  12 ab",    "I'll won't 123456 \t\n\n  x",   "e\xCC\x81 日本 <tool><|end|>",
      "\xFF\xFE\x80 \xF0\x9F", "  The\xE2\x96\x81king's  \r\n", "<|begin|></s><0x41>"};
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
    for (int kind = 0; kind < 5; kind++) {
      char text[128];
      int n = snprintf(text, sizeof text, "%c%s", kind | (i & 1 ? 0x80 : 0), texts[i]);
      seed("encode", "text", 10 * i + (size_t)kind, text, (size_t)n);
    }
  }
}

int main(int argc, char **argv)
{
  if (argc != 2) {
    fputs("usage: seeds FOLDER\n", stderr);
    return 2;
  }
  root = argv[1];
  mkdir(root, 0777);
  seed_models();
  seed_gguf_tokenizers();
  seed_sentencepiece();
  seed_json();
  seed_texts();
  return 0;
}
