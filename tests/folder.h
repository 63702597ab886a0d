/* A folder for each test, or each program, that wants one. */
#ifndef XF_TESTS_FOLDER_H
#define XF_TESTS_FOLDER_H

#include "tests/support.h"

/* Empty when a test begins; made and forgotten by these two as set-up and tear-down. */
extern char *folder;
int make_folder(void **state);
int free_folder(void **state);

/* A path inside it, in a static buffer. */
char *path_of(const char *name);

/* How many files it holds. */
size_t files_in_folder(void);

#endif
