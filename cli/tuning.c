#include "cli/tuning.h"

#include <cjson/cJSON.h>
#include <cpuinfo.h>
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/file.h"
#include "cli/json.h"
#include "cli/report.h"

/* NULL where there is no such place. */
static const char *tuning_path(void)
{
  static char path[PATH_MAX];
  const char *named = getenv("XF_TUNING"), *home = getenv("HOME");
  const char *config = getenv("XDG_CONFIG_HOME");
  if (named) return *named ? named : NULL;
  int length = -1;
  if (config && *config)
    length = snprintf(path, sizeof path, "%s/exactflash/tuning.json", config);
  else if (home && *home)
    length = snprintf(path, sizeof path, "%s/.config/exactflash/tuning.json", home);
  return length > 0 && (size_t)length < sizeof path ? path : NULL;
}

static const char *cpu_name(void)
{
  return cpuinfo_initialize() ? cpuinfo_get_package(0)->name : "";
}

static bool is_text(const cJSON *object, const char *key, const char *text)
{
  const char *value = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, key));
  return value && strcmp(value, text) == 0;
}

/* The entry of this CPU in a list, or NULL. */
static cJSON *find_entry(const cJSON *list, const char *isa)
{
  cJSON *entry;
  cJSON_ArrayForEach(entry, list)
  {
    if (is_text(entry, "cpu", cpu_name()) && is_text(entry, "isa", isa)) return entry;
  }
  return NULL;
}

static bool read_entry(const cJSON *entry, uint32_t q_blocks[static XF_Q_BLOCK_CLASSES])
{
  const cJSON *list = cJSON_GetObjectItemCaseSensitive(entry, "q_blocks");
  if (cJSON_GetArraySize(list) != XF_Q_BLOCK_CLASSES) return false;
  for (int i = 0; i < XF_Q_BLOCK_CLASSES; i++) {
    double n = cJSON_GetNumberValue(cJSON_GetArrayItem(list, i));
    if (!(n >= 0 && n <= XF_Q_BLOCK_MAX && n == (uint32_t)n)) return false;
    q_blocks[i] = (uint32_t)n;
  }
  return true;
}

/* The file's list; NULL where there is no file, or none that can be used. */
static cJSON *read_list(const char *path)
{
  char *data;
  size_t bytes;
  if (access(path, F_OK)) return NULL;
  int code = xf_cli_read_file(path, &data, &bytes);
  cJSON *list = code ? NULL : cJSON_ParseWithLength(data, bytes);
  free(data);
  if (code) return NULL;
  if (cJSON_IsArray(list)) return list;
  cJSON_Delete(list);
  xf_cli_note("%s: not a list of tunings; ignored (exactflash bench --tune makes it anew)", path);
  return NULL;
}

void xf_cli_tuning_load(const char *isa, uint32_t q_blocks[static XF_Q_BLOCK_CLASSES])
{
  uint32_t read[XF_Q_BLOCK_CLASSES] = {0};
  const char *path = tuning_path();
  cJSON *list = path ? read_list(path) : NULL;
  const cJSON *entry = find_entry(list, isa);
  if (entry && !read_entry(entry, read)) {
    xf_cli_note("%s: q_blocks of %s are not %d numbers of 0 to %d; ignored", path, isa,
                XF_Q_BLOCK_CLASSES, XF_Q_BLOCK_MAX);
    memset(read, 0, sizeof read);
  }
  memcpy(q_blocks, read, sizeof read);
  cJSON_Delete(list);
}

/* Makes the folders that the path names. */
static int make_folders(const char *path)
{
  char folder[PATH_MAX];
  if ((size_t)snprintf(folder, sizeof folder, "%s", path) >= sizeof folder)
    return xf_cli_fail("%s: the path is too long", path);
  for (char *slash = folder; (slash = strchr(slash + 1, '/'));) {
    *slash = '\0';
    if (mkdir(folder, 0777) && errno != EEXIST)
      return xf_cli_fail("%s: cannot make the folder: %s", folder, strerror(errno));
    *slash = '/';
  }
  return XF_CLI_OK;
}

/* The list with this CPU's entry replaced; NULL when out of memory. */
static cJSON *changed_list(cJSON *list, const char *isa,
                           const uint32_t q_blocks[static XF_Q_BLOCK_CLASSES])
{
  if (!list) list = cJSON_CreateArray();
  cJSON_Delete(cJSON_DetachItemViaPointer(list, find_entry(list, isa)));
  int32_t ids[XF_Q_BLOCK_CLASSES];
  for (size_t i = 0; i < XF_Q_BLOCK_CLASSES; i++) ids[i] = (int32_t)q_blocks[i];
  cJSON *entry = cJSON_CreateObject();
  if (cJSON_AddItemToArray(list, entry) && xf_cli_json_word(entry, "cpu", cpu_name()) &&
      xf_cli_json_word(entry, "isa", isa) &&
      xf_cli_json_ids(entry, "q_blocks", ids, XF_Q_BLOCK_CLASSES))
    return list;
  cJSON_Delete(list);
  return NULL;
}

int xf_cli_tuning_save(const char *isa, const uint32_t q_blocks[static XF_Q_BLOCK_CLASSES],
                       const char **path)
{
  *path = tuning_path();
  if (!*path) return xf_cli_fail("no place to keep the result: set XF_TUNING to a file's name");
  cJSON *list = changed_list(read_list(*path), isa, q_blocks);
  char *text = list ? cJSON_Print(list) : NULL;
  cJSON_Delete(list);
  if (!text) return xf_cli_fail("out of memory for the result");
  struct xf_cli_output output;
  int code = make_folders(*path);
  if (!code) code = xf_cli_output_open(&output, *path);
  if (!code) {
    code = xf_cli_output_write(&output, text, strlen(text));
    if (!code) code = xf_cli_output_write(&output, "\n", 1);
    if (!code) code = xf_cli_output_commit(&output);
    xf_cli_output_discard(&output);
  }
  cJSON_free(text);
  return code;
}
