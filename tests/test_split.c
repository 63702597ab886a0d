/* The words of text, by hand. Every case was checked once against Hugging Face's tokenizers with
 * the published pre_tokenizer. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/split.h"
#include "tests/support.h"

struct example {
  const char *text, *words; /* the words joined by | */
};

static void check(enum xf_split split, const struct example *examples, size_t n)
{
  struct xf_splitter *splitter;
  assert_int_equal(xf_splitter_create(split, &splitter, NULL), XF_OK);
  for (size_t i = 0; i < n; i++) {
    char got[500] = "";
    struct xf_words words;
    size_t begin, length, end = 0, bytes = strlen(examples[i].text);
    assert_int_equal(xf_words_begin(splitter, examples[i].text, bytes, &words), XF_OK);
    while (xf_words_next(&words, &begin, &length) == XF_OK && length > 0) {
      assert_int_equal(begin, end);
      end += length;
      if (*got) strcat(got, "|");
      strncat(got, examples[i].text + begin, length);
    }
    xf_words_end(&words);
    assert_int_equal(end, bytes);
    if (strcmp(got, examples[i].words) != 0)
      fail_msg("split %d: %s instead of %s", (int)split, got, examples[i].words);
  }
  xf_splitter_destroy(splitter);
}

#define COUNT(list) (sizeof(list) / sizeof *(list))

/* What all four agree on. */
static void common(void **state)
{
  (void)state;
  static const struct example examples[] = {
      {"", ""},
      {"Hello world", "Hello| world"},
      {"a  b", "a| | b"},
      {"   ", "   "},
      {"a   ", "a|   "},
      {"it's we'll", "it|'s| we|'ll"},
      {"Äpfel и 日本語", "Äpfel| и| 日本語"},
      {"hi!?", "hi|!?"},
      {"hi !? x", "hi| !?| x"},
      {"\xC2\xA0 a", "\xC2\xA0| a"}, /* U+00A0 is a space */
      /* Invalid bytes are words, and end the text in front of them. */
      {"ab\xFF\xFE"
       "c",
       "ab|\xFF\xFE|c"},
      {"a  \xC3", "a|  |\xC3"},
      {"\xED\xA0\x80 x", "\xED\xA0\x80| x"},
  };
  for (int split = 0; split < XF_SPLITS; split++)
    check((enum xf_split)split, examples, COUNT(examples));
}

static void gpt2(void **state)
{
  (void)state;
  static const struct example examples[] = {
      {"a1234", "a|1234"},
      {"x 12 34", "x| 12| 34"},
      {"I'M", "I|'|M"},
      {"a\n\nb", "a|\n|\n|b"},
      {"a \n b", "a| \n| b"},
      {"_x (y", "_|x| (|y"},
      {"x😀y", "x|😀|y"},
      {"!\n", "!|\n"},
      {"\tx", "\t|x"},
      {"²Ⅷ", "²Ⅷ"},
      {"a\xE1\xA0\x8E b", "a|\xE1\xA0\x8E| b"}, /* U+180E is none */
  };
  check(XF_SPLIT_GPT2, examples, COUNT(examples));
}

static void smollm(void **state)
{
  (void)state;
  static const struct example examples[] = {
      {"a1234", "a|1|2|3|4"},  {"x 12 34", "x| |1|2| |3|4"},
      {"a   1", "a|   |1"},    {"1   a", "1|  | a"},
      {"a\n1", "a|\n|1"},      {"I'M 't", "I|'|M| '|t"},
      {"x²Ⅷ", "x|²|Ⅷ"},        {" .1", " .|1"},
      {"a's1'd", "a|'s|1|'d"},
  };
  check(XF_SPLIT_SMOLLM, examples, COUNT(examples));
}

static void llama3(void **state)
{
  (void)state;
  static const struct example examples[] = {
      {"a1234", "a|123|4"},          {"x 1234567", "x| |123|456|7"},
      {"I'M I'Ll", "I|'M| I|'Ll"},   {"a\n\nb", "a|\n\n|b"},
      {"a \n b", "a| \n| b"},        {"_x (y", "_x| (|y"},
      {"!\n\nx", "!\n\n|x"},         {"\tx", "\tx"},
      {" \t\n  x", " \t\n| | x"},    {"  \n", "  \n"},
      {"'\xC5\xBFx", "'\xC5\xBF|x"}, /* ſ is an s in capitals */
  };
  check(XF_SPLIT_LLAMA3, examples, COUNT(examples));
}

static void qwen2(void **state)
{
  (void)state;
  static const struct example examples[] = {
      {"a1234", "a|1|2|3|4"}, {"x 12", "x| |1|2"},     {"I'M I'Ll", "I|'M| I|'Ll"},
      {"a\n\nb", "a|\n\n|b"}, {"_x (y", "_x| (|y"},    {"!\n\nx", "!\n\n|x"},
      {"a  1", "a| | |1"},    {"\r\n\tx", "\r\n|\tx"}, {"中文12", "中文|1|2"},
  };
  check(XF_SPLIT_QWEN2, examples, COUNT(examples));
}

/* Megabytes of the worst: all within the time of a test, without the stack. */
static void long_runs(void **state)
{
  (void)state;
  enum { BYTES = 8 << 20 };
  static const char *const runs[] = {" ", "\n", " \n", "a", "9", ".", "\xFF", "日", "' "};
  char *text = malloc(BYTES + 4);
  for (int split = 0; split < XF_SPLITS; split++) {
    struct xf_splitter *splitter;
    assert_int_equal(xf_splitter_create((enum xf_split)split, &splitter, NULL), XF_OK);
    for (size_t i = 0; i < COUNT(runs); i++) {
      size_t unit = strlen(runs[i]), bytes = BYTES / unit * unit, begin, length, end = 0;
      for (size_t k = 0; k < bytes; k += unit) memcpy(text + k, runs[i], unit);
      text[bytes - 1] = i == 0 ? 'x' : text[bytes - 1]; /* spaces in front of a word */
      struct xf_words words;
      assert_int_equal(xf_words_begin(splitter, text, bytes, &words), XF_OK);
      while (xf_words_next(&words, &begin, &length) == XF_OK && length > 0) end += length;
      assert_int_equal(end, bytes);
      xf_words_end(&words);
    }
    xf_splitter_destroy(splitter);
  }
  free(text);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(common), cmocka_unit_test(gpt2),  cmocka_unit_test(smollm),
      cmocka_unit_test(llama3), cmocka_unit_test(qwen2), cmocka_unit_test(long_runs),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
