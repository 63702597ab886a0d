#include "exactflash/tokenizer.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "dispatch/error.h"
#include "dispatch/memory.h"
#include "model/bpe.h"
#include "model/file.h"
#include "model/vocabulary.h"

/* The file's bytes are copied, so that nothing that happens to the file later can harm. */
static xf_status read_file(const char *path, struct xf_tokenizer *tokenizer, size_t *bytes,
                           xf_error *error)
{
  struct xf_file file;
  xf_status status = xf_file_map(path, &file, error);
  if (status != XF_OK) return status;
  *bytes = file.bytes;
  if (file.bytes > XF_TEXT_LIMIT)
    status = xf_fail(error, XF_E_UNSUPPORTED, "%s: larger than 1 GiB: no tokenizer.model", path);
  else if (!(tokenizer->file = xf_alloc(file.bytes, 1)))
    status = xf_fail(error, XF_E_MEMORY, "%s: out of memory for %zu bytes", path, file.bytes);
  else if (file.bytes > 0)
    memcpy(tokenizer->file, file.data, file.bytes);
  xf_file_unmap(&file);
  return status;
}

xf_status xf_tokenizer_open(const char *path, xf_tokenizer **out, xf_error *error)
{
  if (out) *out = NULL;
  if (!path || !out)
    return xf_fail(error, XF_E_ARGUMENT, "xf_tokenizer_open: path and out must not be NULL");
  char inside[4096];
  struct stat info;
  if (stat(path, &info) == 0 && S_ISDIR(info.st_mode)) {
    int length = snprintf(inside, sizeof inside, "%s/tokenizer.model", path);
    if (length < 0 || (size_t)length >= sizeof inside)
      return xf_fail(error, XF_E_FILE, "%s: the path is too long", path);
    path = inside;
  }
  struct xf_tokenizer *tokenizer = xf_alloc_zeroed(1, sizeof *tokenizer);
  if (!tokenizer) return xf_fail(error, XF_E_MEMORY, "%s: out of memory", path);
  size_t bytes;
  xf_status status = read_file(path, tokenizer, &bytes, error);
  if (status == XF_OK) status = xf_vocabulary_build(path, bytes, tokenizer, error);
  if (status == XF_OK)
    *out = tokenizer;
  else
    xf_tokenizer_close(tokenizer);
  return status;
}

void xf_tokenizer_close(xf_tokenizer *tokenizer)
{
  if (!tokenizer) return;
  xf_vocabulary_free(tokenizer);
  xf_free(tokenizer->file);
  xf_free(tokenizer);
}

size_t xf_tokenizer_vocab_size(const xf_tokenizer *tokenizer)
{
  return tokenizer->model.n;
}

int32_t xf_tokenizer_bos(const xf_tokenizer *tokenizer)
{
  return tokenizer->bos;
}

int32_t xf_tokenizer_eos(const xf_tokenizer *tokenizer)
{
  return tokenizer->eos;
}

static size_t put_space_mark(char *out, size_t n)
{
  memcpy(out + n, XF_SPACE_MARK, XF_SPACE_MARK_BYTES);
  return n + XF_SPACE_MARK_BYTES;
}

/* SentencePiece's normalization, the character map being the identity. out has room for every byte
 * to become a space mark, and one more in front. */
static size_t normalize(const struct xf_sentencepiece *model, const char *text, size_t bytes,
                        char *out)
{
  bool trims = model->remove_extra_whitespaces, after_space = trims;
  size_t n = 0, i = 0;
  while (trims && i < bytes && text[i] == ' ') i++;
  if (i == bytes) return 0;
  if (model->add_dummy_prefix) n = put_space_mark(out, n);
  for (; i < bytes; i++) {
    bool space = text[i] == ' ';
    if (!space)
      out[n++] = text[i];
    else if (!after_space)
      n = put_space_mark(out, n);
    after_space = space && trims;
  }
  while (trims && n >= XF_SPACE_MARK_BYTES &&
         memcmp(out + n - XF_SPACE_MARK_BYTES, XF_SPACE_MARK, XF_SPACE_MARK_BYTES) == 0)
    n -= XF_SPACE_MARK_BYTES;
  return n;
}

/* Text between special tokens: a text of its own, with its own dummy prefix. */
static bool encode_plain(const xf_tokenizer *tokenizer, const char *text, size_t bytes,
                         struct xf_ids *out)
{
  if (bytes == 0) return true;
  char *normalized = xf_alloc(bytes + 1, XF_SPACE_MARK_BYTES);
  if (!normalized) return false;
  size_t n = normalize(&tokenizer->model, text, bytes, normalized);
  bool done = xf_bpe_encode(tokenizer, normalized, n, out);
  xf_free(normalized);
  return done;
}

/* The leftmost special token first, of those that begin there the longest. */
static bool encode_with_special(const xf_tokenizer *tokenizer, const char *text, size_t bytes,
                                struct xf_ids *out)
{
  size_t plain = 0; /* where the plain text begins */
  for (size_t i = 0; i < bytes;) {
    int32_t id = -1;
    size_t matched = xf_vocabulary_match(tokenizer, text + i, bytes - i, XF_SPECIAL, &id);
    if (matched > 0 && tokenizer->model.pieces[id].type != XF_PIECE_USER_DEFINED) {
      if (!encode_plain(tokenizer, text + plain, i - plain, out)) return false;
      xf_ids_push(out, id);
      plain = i + matched;
    }
    i += matched > 0 ? matched : 1;
  }
  return encode_plain(tokenizer, text + plain, bytes - plain, out);
}

xf_status xf_tokenizer_encode(const xf_tokenizer *tokenizer, const char *utf8, size_t bytes,
                              uint32_t flags, int32_t *ids, size_t capacity, size_t *n,
                              xf_error *error)
{
  if (n) *n = 0;
  if (!tokenizer || (!utf8 && bytes > 0) || (!ids && capacity > 0) || !n)
    return xf_fail(error, XF_E_ARGUMENT,
                   "xf_tokenizer_encode: tokenizer, utf8, ids and n must not be NULL");
  if (flags & ~(uint32_t)(XF_ENCODE_BOS | XF_ENCODE_PARSE_SPECIAL))
    return xf_fail(error, XF_E_ARGUMENT, "xf_tokenizer_encode: unknown flags 0x%X", flags);
  if (bytes >= XF_TEXT_LIMIT)
    return xf_fail(error, XF_E_ARGUMENT,
                   "xf_tokenizer_encode: the text has %zu bytes; encode it in parts of less than "
                   "1 GiB",
                   bytes);
  if (flags & XF_ENCODE_BOS && tokenizer->bos < 0)
    return xf_fail(error, XF_E_ARGUMENT,
                   "xf_tokenizer_encode: this tokenizer.model has no BOS piece; leave out "
                   "XF_ENCODE_BOS");
  struct xf_ids out = {.ids = ids, .capacity = capacity};
  if (flags & XF_ENCODE_BOS) xf_ids_push(&out, tokenizer->bos);
  bool done = flags & XF_ENCODE_PARSE_SPECIAL ? encode_with_special(tokenizer, utf8, bytes, &out)
                                              : encode_plain(tokenizer, utf8, bytes, &out);
  if (!done)
    return xf_fail(error, XF_E_MEMORY, "xf_tokenizer_encode: out of memory for a text of %zu bytes",
                   bytes);
  *n = out.n;
  return XF_OK;
}

static bool in_vocabulary(const xf_tokenizer *tokenizer, int32_t id)
{
  return id >= 0 && (size_t)id < tokenizer->model.n;
}

xf_status xf_tokenizer_decode(const xf_tokenizer *tokenizer, const int32_t *ids, size_t n,
                              char *utf8, size_t capacity, size_t *bytes, xf_error *error)
{
  if (bytes) *bytes = 0;
  if (!tokenizer || (!ids && n > 0) || (!utf8 && capacity > 0) || !bytes)
    return xf_fail(error, XF_E_ARGUMENT,
                   "xf_tokenizer_decode: tokenizer, ids, utf8 and bytes must not be NULL");
  size_t total = 0;
  bool at_start = true;
  for (size_t i = 0; i < n; i++) {
    if (!in_vocabulary(tokenizer, ids[i]))
      return xf_fail(error, XF_E_ARGUMENT,
                     "xf_tokenizer_decode: ids[%zu] is %d, outside of the vocabulary of %zu", i,
                     (int)ids[i], tokenizer->model.n);
    const char *text;
    size_t length;
    xf_vocabulary_text(tokenizer, ids[i], &at_start, &text, &length);
    if (total < capacity) memcpy(utf8 + total, text, xf_min(length, capacity - total));
    if (__builtin_add_overflow(total, length, &total))
      return xf_fail(error, XF_E_ARGUMENT, "xf_tokenizer_decode: the text is too long");
  }
  *bytes = total;
  return XF_OK;
}

xf_status xf_tokenizer_piece(const xf_tokenizer *tokenizer, int32_t id, const char **piece,
                             size_t *bytes)
{
  if (!tokenizer || !piece || !bytes || !in_vocabulary(tokenizer, id)) return XF_E_ARGUMENT;
  bool at_start = false;
  xf_vocabulary_text(tokenizer, id, &at_start, piece, bytes);
  return XF_OK;
}
