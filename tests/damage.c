#include "tests/damage.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/compare.h"
#include "tests/support.h"

static int open_file(const char *path)
{
  int file = open(path, O_RDWR | O_CLOEXEC);
  if (file < 0) fail_msg("cannot open %s for writing", path);
  return file;
}

size_t damage_prefixes(const char *path, damage_attempt attempt, void *arg)
{
  size_t bytes, accepted = 0;
  unsigned char *whole = read_file(path, &bytes);
  int file = open_file(path);
  for (size_t n = bytes; n-- > 0;) {
    assert_int_equal(ftruncate(file, (off_t)n), 0);
    accepted += attempt(arg);
  }
  assert_int_equal(pwrite(file, whole, bytes, 0), bytes);
  close(file);
  free(whole);
  return accepted;
}

size_t damage_bytes(const char *path, size_t head, size_t times, uint64_t seed,
                    damage_attempt attempt, void *arg)
{
  size_t bytes, accepted = 0;
  unsigned char *whole = read_file(path, &bytes);
  int file = open_file(path);
  struct rng rng = {seed};
  for (size_t i = 0; i < scaled(times); i++) {
    size_t at = rng_below(&rng, i % 2 && head && head < bytes ? head : bytes);
    unsigned char value = (unsigned char)rng_next(&rng);
    assert_int_equal(pwrite(file, &value, 1, (off_t)at), 1);
    accepted += attempt(arg);
    assert_int_equal(pwrite(file, whole + at, 1, (off_t)at), 1);
  }
  close(file);
  free(whole);
  return accepted;
}
