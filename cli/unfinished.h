/* Files that are not whole yet. A signal that ends the program removes them first. */
#ifndef XF_CLI_UNFINISHED_H
#define XF_CLI_UNFINISHED_H

/* The signals by which a user or a system ends a program that may tidy up: 0 stands behind them. */
extern const int xf_cli_ending_signals[];

/* From now on the signal removes the unfinished files before it ends the program. */
void xf_cli_unfinished_end_by(int signal);

/* Creates a new file and returns its descriptor, or −1 with errno. The path must stay as it is
 * until the file is renamed or removed. */
int xf_cli_unfinished_create(const char *path);
/* Gives a whole file its name; on failure (−1 with errno) it stays unfinished. */
int xf_cli_unfinished_rename(const char *path, const char *target);
void xf_cli_unfinished_remove(const char *path);

#endif
