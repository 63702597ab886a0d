/* Ctrl-C: the first one asks the program to stop at the next token or chunk, the second kills it.
 */
#ifndef XF_CLI_INTERRUPT_H
#define XF_CLI_INTERRUPT_H

/* Watches SIGINT and SIGTERM. A SIGINT that the caller has chosen to ignore stays ignored. */
void xf_cli_interrupt_watch(void);
/* The signal that arrived, else 0. */
int xf_cli_interrupted(void);

#endif
