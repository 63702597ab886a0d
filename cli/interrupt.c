#include "cli/interrupt.h"

#include <signal.h>

static volatile sig_atomic_t arrived;

static void note(int signal)
{
  arrived = signal;
}

static void watch(int signal)
{
  struct sigaction old, action = {.sa_handler = note, .sa_flags = SA_RESTART | SA_RESETHAND};
  sigemptyset(&action.sa_mask);
  if (sigaction(signal, NULL, &old) == 0 && old.sa_handler == SIG_IGN) return;
  sigaction(signal, &action, NULL);
}

void xf_cli_interrupt_watch(void)
{
  watch(SIGINT);
  watch(SIGTERM);
}

int xf_cli_interrupted(void)
{
  return arrived;
}
