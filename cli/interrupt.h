/* Ctrl-C: the first one asks the program to stop at the next token or chunk, the second kills it,
 * except in a command that lives on, or has the library write a file that must not be left half
 * written. What is unfinished (cli/unfinished.h) goes with the program. */
#ifndef XF_CLI_INTERRUPT_H
#define XF_CLI_INTERRUPT_H

/* Watches SIGINT, SIGTERM and SIGHUP. One that the caller has chosen to ignore stays ignored. */
void xf_cli_interrupt_watch(void);
/* The same, and none of them ever kills. */
void xf_cli_interrupt_hold(void);
/* From now on every Ctrl-C only asks to stop what is being done. */
void xf_cli_interrupt_live_on(void);
/* The signal that arrived, else 0. */
int xf_cli_interrupted(void);
/* What was asked to stop has stopped: a Ctrl-C is forgotten, the others are not. */
void xf_cli_interrupt_forget(void);
/* After xf_cli_interrupt_live_on: waits until a file can be read without waiting (1) or a signal
 * has arrived (0). */
int xf_cli_interrupt_wait(int file);

#endif
