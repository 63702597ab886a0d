/* What the fuzz targets share. Each is a program of libFuzzer's: it is handed bytes, and whatever
 * they are, the library must give a clear error or a result that makes sense. */
#ifndef XF_TESTS_FUZZ_H
#define XF_TESTS_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "exactflash/tokenizer.h"

/* libFuzzer's interface. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

/* Ends the program with a report where `good` is false. */
void fuzz_expect(bool good, const char *what);

/* A temporary folder, the same at every call. */
const char *fuzz_folder(void);
/* Writes the bytes as FOLDER/NAME; the path is in a static buffer. */
const char *fuzz_file(const char *name, const uint8_t *data, size_t size);

/* A failure has a message that names the file, and is the file's fault; whether it is one. */
bool fuzz_failed(xf_status status, const xf_error *error, const char *path);

/* Reads every byte, as its user would. */
void fuzz_touch(const void *data, size_t bytes);

/* Encodes a text, decodes it, streams it, and compares the results. keeps_text: decoding gives
 * the text again. */
void fuzz_tokenizer(const xf_tokenizer *tokenizer, const char *text, size_t bytes, uint32_t flags,
                    bool keeps_text);
/* The same with a text that has a bit of everything. */
void fuzz_any_tokenizer(const xf_tokenizer *tokenizer);

#endif
