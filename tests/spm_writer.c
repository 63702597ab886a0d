#include "tests/spm_writer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support.h"

const char *const spm_pieces[] = {"▁",  "a",    "b",    "c",  "d",    "e",    "é",   "日",  "本",
                                  "<",  "/",    "s",    ">",  "ab",   "▁a",   "bc",  "abc", "▁▁",
                                  "de", "▁de",  "cde",  "ea", "aa",   "aaaa", "bb",  "éa",  "▁ab",
                                  "dd", "日本", "▁日",  "ce", "▁abc", "eab",  "aaa", "ed",  "▁▁▁▁",
                                  "ca", "bca",  "▁bca", "éé", "aé",   NULL};

static void append(struct message *to, const void *data, size_t bytes)
{
  if (to->bytes + bytes > to->capacity) {
    to->capacity = 2 * (to->bytes + bytes) + 64;
    to->data = realloc(to->data, to->capacity);
    assert_non_null(to->data);
  }
  if (bytes) memcpy(to->data + to->bytes, data, bytes);
  to->bytes += bytes;
}

static void append_varint(struct message *to, uint64_t value)
{
  for (; value > 0x7F; value >>= 7) append(to, &(unsigned char){(value & 0x7F) | 0x80}, 1);
  append(to, &(unsigned char){(unsigned char)value}, 1);
}

void put_varint(struct message *to, unsigned field, uint64_t value)
{
  append_varint(to, field << 3 | 0);
  append_varint(to, value);
}

void put_float(struct message *to, unsigned field, float value)
{
  append_varint(to, field << 3 | 5);
  append(to, &value, sizeof value);
}

void put_bytes(struct message *to, unsigned field, const void *data, size_t bytes)
{
  append_varint(to, field << 3 | 2);
  append_varint(to, bytes);
  append(to, data, bytes);
}

void put_message(struct message *to, unsigned field, struct message *inner)
{
  put_bytes(to, field, inner->data, inner->bytes);
  free(inner->data);
  *inner = (struct message){0};
}

void put_piece(struct message *to, const char *spelling, float score, int type)
{
  struct message piece = {0};
  put_bytes(&piece, 1, spelling, strlen(spelling));
  put_float(&piece, 2, score);
  if (type != NORMAL) put_varint(&piece, 3, (uint64_t)type);
  put_message(to, 1, &piece);
}

static void put_pieces(struct message *to, const char *const *pieces, float score, int type)
{
  for (size_t i = 0; pieces && pieces[i]; i++)
    put_piece(to, pieces[i], score - (float)(i / 2), type);
}

struct message spm_pieces_message(const struct spm_options *options)
{
  struct message model = {0};
  put_piece(&model, "<unk>", 0, UNKNOWN);
  put_piece(&model, "<s>", 0, CONTROL);
  put_piece(&model, "</s>", 0, CONTROL);
  for (unsigned i = 0; i < 256; i++) {
    char spelling[8];
    snprintf(spelling, sizeof spelling, "<0x%02X>", i);
    put_piece(&model, spelling, 0, BYTE);
  }
  put_pieces(&model, spm_pieces, 0, NORMAL);
  put_pieces(&model, options->normal, -100, NORMAL);
  put_pieces(&model, options->user_defined, 0, USER_DEFINED);
  put_pieces(&model, options->control, 0, CONTROL);
  return model;
}

struct message spm_model(const struct spm_options *options)
{
  struct message model = spm_pieces_message(options), trainer = {0}, normalizer = {0};
  put_varint(&trainer, 3, 2);
  put_varint(&trainer, 35, 1);
  put_message(&model, 2, &trainer);
  put_bytes(&normalizer, 1, "identity", 8);
  put_varint(&normalizer, 3, !options->no_dummy_prefix);
  put_varint(&normalizer, 4, options->remove_extra_whitespaces != 0);
  put_message(&model, 3, &normalizer);
  return model;
}
