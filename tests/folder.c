#include "tests/folder.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

char *folder;

int make_folder(void **state)
{
  (void)state;
  folder = temporary_folder();
  return 0;
}

int free_folder(void **state)
{
  (void)state;
  free(folder);
  return 0;
}

char *path_of(const char *name)
{
  static char path[4096];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  return path;
}

size_t files_in_folder(void)
{
  size_t n = 0;
  DIR *entries = opendir(folder);
  assert_non_null(entries);
  for (struct dirent *entry; (entry = readdir(entries));) n += entry->d_name[0] != '.';
  closedir(entries);
  return n;
}
