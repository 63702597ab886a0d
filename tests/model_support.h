/* What the tests of whole models share. Every function fails the test where the library does. */
#ifndef XF_TESTS_MODEL_SUPPORT_H
#define XF_TESTS_MODEL_SUPPORT_H

#include <cjson/cJSON.h>

#include "exactflash/exactflash.h"
#include "tests/tiny_model.h"

/* isa NULL: the library's choice; threads 0: its default. */
xf_context *open_context(const char *isa, uint32_t threads);
/* options may be NULL. */
xf_model *open_model(const xf_context *context, const char *path, const xf_model_options *options);
xf_cache *new_cache(const xf_model *model, size_t capacity);

/* Adds tokens to one sequence. */
void run(const xf_model *model, xf_cache *cache, const int32_t *tokens, size_t n, xf_logits logits,
         float *out);

/* Fails unless all is well, with the library's message. */
void expect_ok(xf_status status, const xf_error *error);
/* Fails unless it is that failure, with a message in *error; clears *error. */
void expect_status(xf_status status, xf_status want, xf_error *error);

/* Writes the model into a new temporary folder; free() the path. */
char *write_tiny_model(const struct tiny_model *model);
/* n random ids in [0, vocab); free() them. */
int32_t *random_ids(uint64_t seed, size_t n, size_t vocab);
float *new_floats(size_t n); /* free() them */

/* K and V of a cache as xf_cache_export gives them. */
struct exported {
  size_t layers, floats; /* of one layer */
  float **k, **v;
};
struct exported export_cache(const xf_model *model, const xf_cache *cache, size_t max_seq_len);
void exported_free(struct exported *exported);
/* Fails unless both hold the same bits. */
void expect_same_cache(const xf_model *model, const xf_cache *a, const xf_cache *b);

/* xf_convert, over a file that may be there. struct_size need not be set. */
void convert_model(const char *from, const char *to, xf_convert_options options);

cJSON *read_json(const char *path);
/* A member that must be there. */
const cJSON *json_get(const cJSON *object, const char *name);
/* An array of ids; free() them. */
int32_t *json_ids(const cJSON *array, size_t *n);

#endif
