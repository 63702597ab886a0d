/* Writes small SentencePiece models, whole or broken, for the tokenizer's tests. */
#ifndef XF_TESTS_SPM_WRITER_H
#define XF_TESTS_SPM_WRITER_H

#include <stddef.h>
#include <stdint.h>

/* A growing protobuf message. Zero-initialised; free(data). */
struct message {
  unsigned char *data;
  size_t bytes, capacity;
};

void put_varint(struct message *to, unsigned field, uint64_t value);
void put_float(struct message *to, unsigned field, float value);
void put_bytes(struct message *to, unsigned field, const void *data, size_t bytes);
/* A message inside a message; frees `inner`. */
void put_message(struct message *to, unsigned field, struct message *inner);

/* Types of pieces. */
enum { NORMAL = 1, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE };
void put_piece(struct message *to, const char *spelling, float score, int type);

/* What a model differs in from Llama's. */
struct spm_options {
  int no_dummy_prefix, remove_extra_whitespaces;
  const char *const *normal;       /* more NORMAL pieces, up to NULL (may be NULL) */
  const char *const *user_defined; /* the same */
  const char *const *control;      /* the same, behind all others */
};

/* The NORMAL pieces of every small model, up to NULL; the score of the i-th is −(i / 2), so that
 * neighbours tie. */
extern const char *const spm_pieces[];
/* <unk>, <s>, </s>, 256 bytes, spm_pieces, then those of the options: about 300 pieces. */
struct message spm_pieces_message(const struct spm_options *options);
/* The same and the trainer and normalizer specs of a Llama model. */
struct message spm_model(const struct spm_options *options);

#endif
