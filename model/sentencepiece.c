#include "model/sentencepiece.h"

#include <math.h>
#include <string.h>

#include "dispatch/error.h"
#include "dispatch/memory.h"
#include "dispatch/utf8.h"
#include "model/protobuf.h"

struct parser {
  const char *path;
  xf_error *error;
  struct xf_token_list *out;
  struct xf_piece bos, eos; /* their spelling only */
  bool has_trainer, has_normalizer;
  bool byte_fallback, whitespace_as_suffix, escape_whitespaces;
  const char *charsmap; /* the field that holds a normalization */
  uint64_t model_type, piece_type;
};

typedef xf_status (*visitor)(struct parser *parser, const struct xf_field *field);

/* Calls visit for every field of a message; name is for messages ("trainer_spec"). */
static xf_status each_field(struct parser *parser, struct xf_message message, const char *name,
                            visitor visit)
{
  struct xf_field field;
  size_t whole = message.bytes;
  for (;;) {
    size_t offset = whole - message.bytes;
    int got = xf_message_next(&message, &field);
    if (got == 0) return XF_OK;
    if (got < 0)
      return xf_fail(
          parser->error, XF_E_FORMAT,
          "%s: %s is no whole protobuf message (at its byte %zu): the file is truncated, "
          "corrupt or not a SentencePiece model",
          parser->path, name, offset);
    xf_status status = visit(parser, &field);
    if (status != XF_OK) return status;
  }
}

static xf_status expect(const struct parser *parser, const struct xf_field *field,
                        enum xf_wire wire, const char *name)
{
  if (field->wire == wire) return XF_OK;
  return xf_fail(parser->error, XF_E_FORMAT,
                 "%s: field %s has protobuf wire type %d, not %d: the file is corrupt or not a "
                 "SentencePiece model",
                 parser->path, name, (int)field->wire, (int)wire);
}

static xf_status read_bool(const struct parser *parser, const struct xf_field *field,
                           const char *name, bool *out)
{
  *out = field->value != 0;
  return expect(parser, field, XF_WIRE_VARINT, name);
}

static xf_status read_spelling(const struct parser *parser, const struct xf_field *field,
                               const char *name, struct xf_piece *out)
{
  out->spelling = (const char *)field->bytes.data;
  out->bytes = (uint32_t)field->bytes.bytes;
  return expect(parser, field, XF_WIRE_BYTES, name);
}

/* An empty name means the default, which is there already. */
static xf_status read_name(const struct parser *parser, const struct xf_field *field,
                           const char *name, struct xf_piece *out)
{
  if (field->bytes.bytes == 0) return expect(parser, field, XF_WIRE_BYTES, name);
  return read_spelling(parser, field, name, out);
}

static xf_status visit_trainer(struct parser *parser, const struct xf_field *field)
{
  switch (field->number) {
  case 3:
    parser->model_type = field->value;
    return expect(parser, field, XF_WIRE_VARINT, "trainer_spec.model_type");
  case 24:
    return read_bool(parser, field, "trainer_spec.treat_whitespace_as_suffix",
                     &parser->whitespace_as_suffix);
  case 35: return read_bool(parser, field, "trainer_spec.byte_fallback", &parser->byte_fallback);
  case 46: return read_name(parser, field, "trainer_spec.bos_piece", &parser->bos);
  case 47: return read_name(parser, field, "trainer_spec.eos_piece", &parser->eos);
  default: return XF_OK;
  }
}

static xf_status visit_normalizer(struct parser *parser, const struct xf_field *field)
{
  switch (field->number) {
  case 2:
    if (field->bytes.bytes > 0) parser->charsmap = "normalizer_spec.precompiled_charsmap";
    return expect(parser, field, XF_WIRE_BYTES, "normalizer_spec.precompiled_charsmap");
  case 3:
    return read_bool(parser, field, "normalizer_spec.add_dummy_prefix",
                     &parser->out->rules.dummy_prefix);
  case 4:
    return read_bool(parser, field, "normalizer_spec.remove_extra_whitespaces",
                     &parser->out->rules.remove_extra_whitespaces);
  case 5:
    return read_bool(parser, field, "normalizer_spec.escape_whitespaces",
                     &parser->escape_whitespaces);
  default: return XF_OK;
  }
}

static xf_status visit_denormalizer(struct parser *parser, const struct xf_field *field)
{
  if (field->number != 2) return XF_OK;
  if (field->bytes.bytes > 0) parser->charsmap = "denormalizer_spec.precompiled_charsmap";
  return expect(parser, field, XF_WIRE_BYTES, "denormalizer_spec.precompiled_charsmap");
}

static xf_status visit_piece(struct parser *parser, const struct xf_field *field)
{
  struct xf_piece *piece = &parser->out->pieces[parser->out->n];
  switch (field->number) {
  case 1: return read_spelling(parser, field, "pieces.piece", piece);
  case 2: {
    uint32_t bits = (uint32_t)field->value;
    memcpy(&piece->score, &bits, sizeof bits);
    return expect(parser, field, XF_WIRE_FIXED32, "pieces.score");
  }
  case 3:
    parser->piece_type = field->value;
    return expect(parser, field, XF_WIRE_VARINT, "pieces.type");
  default: return XF_OK;
  }
}

static xf_status check_piece(struct parser *parser, struct xf_piece *piece)
{
  const char *fault = NULL;
  if (piece->bytes == 0)
    fault = "pieces.piece is missing or empty";
  else if (!xf_utf8_valid(piece->spelling, piece->bytes))
    fault = "pieces.piece is not UTF-8";
  else if (isnan(piece->score))
    fault = "pieces.score is not a number";
  if (fault)
    return xf_fail(parser->error, XF_E_FORMAT, "%s: piece %zu: %s: the file is corrupt",
                   parser->path, parser->out->n, fault);
  switch (parser->piece_type) {
  case XF_PIECE_NORMAL:
  case XF_PIECE_UNKNOWN:
  case XF_PIECE_CONTROL:
  case XF_PIECE_USER_DEFINED:
  case XF_PIECE_BYTE: piece->type = (enum xf_piece_type)parser->piece_type; return XF_OK;
  default:
    return xf_fail(parser->error, XF_E_UNSUPPORTED,
                   "%s: piece %zu: pieces.type is %llu; supported are NORMAL (1), UNKNOWN (2), "
                   "CONTROL (3), USER_DEFINED (4) and BYTE (6)",
                   parser->path, parser->out->n, (unsigned long long)parser->piece_type);
  }
}

static xf_status count_piece(struct parser *parser, const struct xf_field *field)
{
  if (field->number != 1) return XF_OK;
  parser->out->n++;
  return expect(parser, field, XF_WIRE_BYTES, "pieces");
}

static xf_status visit_model(struct parser *parser, const struct xf_field *field)
{
  xf_status status = XF_OK;
  switch (field->number) {
  case 1: {
    struct xf_piece *piece = &parser->out->pieces[parser->out->n];
    *piece = (struct xf_piece){0};
    parser->piece_type = XF_PIECE_NORMAL;
    status = each_field(parser, field->bytes, "pieces", visit_piece);
    if (status == XF_OK) status = check_piece(parser, piece);
    parser->out->n++;
    return status;
  }
  case 2:
    parser->has_trainer = true;
    status = expect(parser, field, XF_WIRE_BYTES, "trainer_spec");
    return status ? status : each_field(parser, field->bytes, "trainer_spec", visit_trainer);
  case 3:
    parser->has_normalizer = true;
    status = expect(parser, field, XF_WIRE_BYTES, "normalizer_spec");
    return status ? status : each_field(parser, field->bytes, "normalizer_spec", visit_normalizer);
  case 5:
    status = expect(parser, field, XF_WIRE_BYTES, "denormalizer_spec");
    return status ? status
                  : each_field(parser, field->bytes, "denormalizer_spec", visit_denormalizer);
  default: return XF_OK;
  }
}

static xf_status check_model(const struct parser *parser)
{
  const char *missing = parser->out->n == 0       ? "pieces"
                        : !parser->has_trainer    ? "trainer_spec"
                        : !parser->has_normalizer ? "normalizer_spec"
                                                  : NULL;
  if (missing)
    return xf_fail(parser->error, XF_E_FORMAT,
                   "%s: %s is missing: the file is truncated or not a SentencePiece model",
                   parser->path, missing);
  if (parser->model_type != 2) {
    static const char *const names[] = {"0", "UNIGRAM", "BPE", "WORD", "CHAR"};
    return xf_fail(parser->error, XF_E_UNSUPPORTED,
                   "%s: trainer_spec.model_type is %s; only BPE is supported", parser->path,
                   parser->model_type < 5 ? names[parser->model_type] : "unknown");
  }
  const char *field = NULL, *value = NULL;
  if (!parser->byte_fallback)
    field = "trainer_spec.byte_fallback", value = "false";
  else if (parser->whitespace_as_suffix)
    field = "trainer_spec.treat_whitespace_as_suffix", value = "true";
  else if (!parser->escape_whitespaces)
    field = "normalizer_spec.escape_whitespaces", value = "false";
  else if (parser->charsmap)
    field = parser->charsmap, value = "not empty";
  if (!field) return XF_OK;
  return xf_fail(parser->error, XF_E_UNSUPPORTED,
                 "%s: %s is %s, which is not supported; models as Llama's are (BPE, byte fallback, "
                 "identity normalization)",
                 parser->path, field, value);
}

static int32_t find_control(const struct xf_token_list *list, const struct xf_piece *name)
{
  return xf_token_list_find(list, name->spelling, name->bytes, 1u << XF_PIECE_CONTROL);
}

xf_status xf_sentencepiece_parse(const char *path, const unsigned char *data, size_t bytes,
                                 struct xf_token_list *out, xf_error *error)
{
  /* Where a field is absent, its default of sentencepiece_model.proto holds. */
  *out = (struct xf_token_list){.by_score = true};
  struct xf_token_rules *rules = &out->rules;
  rules->dummy_prefix = rules->remove_extra_whitespaces = true;
  struct parser parser = {.path = path,
                          .error = error,
                          .out = out,
                          .bos = {.spelling = "<s>", .bytes = 3},
                          .eos = {.spelling = "</s>", .bytes = 4},
                          .escape_whitespaces = true,
                          .model_type = 1};
  struct xf_message message = {data, bytes};
  xf_status status = each_field(&parser, message, "the file", count_piece);
  if (status != XF_OK) return status;
  out->pieces = xf_alloc(out->n, sizeof *out->pieces);
  if (!out->pieces)
    return xf_fail(error, XF_E_MEMORY, "%s: out of memory for %zu pieces", path, out->n);
  out->n = 0;
  status = each_field(&parser, message, "the file", visit_model);
  if (status == XF_OK) status = check_model(&parser);
  if (status != XF_OK) return status;
  rules->drops_space = rules->dummy_prefix || rules->remove_extra_whitespaces;
  rules->bos = find_control(out, &parser.bos);
  rules->eos = find_control(out, &parser.eos);
  rules->adds_bos = rules->bos >= 0;
  return XF_OK;
}
