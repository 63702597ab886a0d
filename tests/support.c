#include "tests/support.h"

#include <ftw.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

const char *source_path(const char *relative)
{
  static char path[4096];
  snprintf(path, sizeof path, "%s/%s", XF_SOURCE_DIR, relative);
  return path;
}

const char *fixture(const char *relative)
{
  static char path[4096];
  const char *root = getenv("XF_FIXTURES");
  char beside[2048];
  if (!root) {
    snprintf(beside, sizeof beside, "%s/../shared/fixtures", XF_SOURCE_DIR);
    root = beside;
  }
  if (access(root, R_OK) != 0) {
    print_message("skipped: no fixtures at %s (set XF_FIXTURES)\n", root);
    skip();
  }
  snprintf(path, sizeof path, "%s/%s", root, relative);
  if (access(path, R_OK) != 0) fail_msg("fixture %s is missing", path);
  return path;
}

unsigned char *read_file(const char *path, size_t *bytes)
{
  FILE *file = fopen(path, "rb");
  if (!file) fail_msg("cannot open %s", path);
  struct stat status;
  assert_int_equal(fstat(fileno(file), &status), 0);
  *bytes = (size_t)status.st_size;
  unsigned char *data = malloc(*bytes + 1);
  assert_non_null(data);
  assert_int_equal(fread(data, 1, *bytes, file), *bytes);
  data[*bytes] = 0;
  fclose(file);
  return data;
}

void write_file(const char *path, const void *data, size_t bytes)
{
  FILE *file = fopen(path, "wb");
  if (!file) fail_msg("cannot create %s", path);
  assert_int_equal(fwrite(data, 1, bytes, file), bytes);
  assert_int_equal(fclose(file), 0);
}

static int remove_entry(const char *path, const struct stat *status, int kind, struct FTW *walk)
{
  (void)status, (void)kind, (void)walk;
  return remove(path);
}

static char *folders[64];
static size_t n_folders;

static void remove_folders(void)
{
  for (size_t i = 0; i < n_folders; i++) {
    nftw(folders[i], remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    free(folders[i]);
  }
}

char *temporary_folder(void)
{
  const char *base = getenv("TMPDIR");
  char path[2048];
  snprintf(path, sizeof path, "%s/exactflash-test-XXXXXX", base ? base : "/tmp");
  if (!mkdtemp(path)) fail_msg("cannot create %s", path);
  assert_true(n_folders < 64);
  if (n_folders == 0) atexit(remove_folders);
  folders[n_folders++] = strdup(path);
  return strdup(path);
}

uint64_t rng_next(struct rng *rng)
{
  uint64_t z = rng->state += 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

size_t rng_below(struct rng *rng, size_t n)
{
  return (size_t)(rng_next(rng) % n);
}

float rng_uniform(struct rng *rng)
{
  return (float)(int64_t)(rng_next(rng) >> 40) * 0x1p-23f - 1.0f;
}

float rng_normal(struct rng *rng)
{
  double u = ((double)(rng_next(rng) >> 11) + 1) * 0x1p-53;
  double v = (double)(rng_next(rng) >> 11) * 0x1p-53;
  return (float)(sqrt(-2 * log(u)) * cos(6.283185307179586 * v));
}

void fill_normal(struct rng *rng, size_t n, float *out)
{
  for (size_t i = 0; i < n; i++) out[i] = rng_normal(rng);
}

struct guarded guarded_new(size_t bytes)
{
  size_t page = (size_t)sysconf(_SC_PAGESIZE);
  size_t body = (bytes + page - 1) / page * page;
  struct guarded buffer = {.mapped = body + 2 * page};
  buffer.mapping = mmap(NULL, buffer.mapped, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  assert_true(buffer.mapping != MAP_FAILED);
  char *start = (char *)buffer.mapping + page;
  if (body) assert_int_equal(mprotect(start, body, PROT_READ | PROT_WRITE), 0);
  if (body) memset(start, 0xA5, body);
  buffer.data = start + body - bytes;
  return buffer;
}

void guarded_free(struct guarded *buffer)
{
  munmap(buffer->mapping, buffer->mapped);
}
