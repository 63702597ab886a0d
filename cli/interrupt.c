#include "cli/interrupt.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include "cli/unfinished.h"

static volatile sig_atomic_t arrived;
/* A pipe that a signal writes to, so that waiting for a file wakes up whichever thread the signal
 * went to and however early it came. */
static int bell[2] = {-1, -1};

static void note(int signal)
{
  int code = errno;
  if (arrived == 0 || arrived == SIGINT) arrived = signal;
  if (bell[1] >= 0 && write(bell[1], "", 1) < 0) errno = code; /* full: it rings already */
  errno = code;
}

static void note_once(int signal)
{
  xf_cli_unfinished_end_by(signal);
  note(signal);
}

static void watch(int signal, void (*handler)(int))
{
  struct sigaction old, action = {.sa_handler = handler, .sa_flags = SA_RESTART};
  sigemptyset(&action.sa_mask);
  if (sigaction(signal, NULL, &old) == 0 && old.sa_handler == SIG_IGN) return;
  sigaction(signal, &action, NULL);
}

void xf_cli_interrupt_watch(void)
{
  for (const int *s = xf_cli_ending_signals; *s; s++) watch(*s, note_once);
}

void xf_cli_interrupt_hold(void)
{
  for (const int *s = xf_cli_ending_signals; *s; s++) watch(*s, note);
}

void xf_cli_interrupt_live_on(void)
{
  if (bell[0] < 0 && pipe2(bell, O_CLOEXEC | O_NONBLOCK) != 0) bell[0] = bell[1] = -1;
  watch(SIGINT, note);
}

int xf_cli_interrupted(void)
{
  return arrived;
}

void xf_cli_interrupt_forget(void)
{
  char rung[64];
  while (bell[0] >= 0 && read(bell[0], rung, sizeof rung) > 0) continue;
  if (arrived == SIGINT) arrived = 0;
}

int xf_cli_interrupt_wait(int file)
{
  struct pollfd files[2] = {{.fd = file, .events = POLLIN}, {.fd = bell[0], .events = POLLIN}};
  while (!arrived && poll(files, 2, -1) < 0 && errno == EINTR) continue;
  return !arrived;
}
