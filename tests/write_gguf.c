/* write_gguf FOLDER FILE: writes a Hugging Face checkpoint as GGUF, for others to read. */
#include <stdio.h>

#include "tests/gguf_model.h"
#include "tests/support.h"

static char **arguments;

static void write_model(void **state)
{
  (void)state;
  gguf_model_write(arguments[1], arguments[2]);
}

int main(int argc, char **argv)
{
  if (argc != 3) {
    fprintf(stderr, "usage: write_gguf FOLDER FILE\n");
    return 2;
  }
  arguments = argv;
  const struct CMUnitTest tests[] = {cmocka_unit_test(write_model)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
