#include "cli/unfinished.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <unistd.h>

const int xf_cli_ending_signals[] = {SIGINT, SIGTERM, SIGHUP, 0};

enum { FILES = 4 /* a command has two: its output and a trace */ };

static const char *files[FILES]; /* NULL: free */
static pid_t owner;              /* a child's end is none of the files' */
/* Held while a file and its entry change. A signal can come to any thread: its handler waits for
 * the one that holds this, which no signal interrupts, and keeps it, so that no file comes to be
 * behind the handler's back. */
static atomic_flag busy = ATOMIC_FLAG_INIT;

static sigset_t ending_set(void)
{
  sigset_t set;
  sigemptyset(&set);
  for (const int *s = xf_cli_ending_signals; *s; s++) sigaddset(&set, *s);
  return set;
}

static void take(void)
{
  while (atomic_flag_test_and_set(&busy)) continue;
}

static sigset_t begin(void)
{
  sigset_t ending = ending_set(), old;
  pthread_sigmask(SIG_BLOCK, &ending, &old);
  take();
  return old;
}

static void end(const sigset_t *old)
{
  int code = errno;
  atomic_flag_clear(&busy);
  pthread_sigmask(SIG_SETMASK, old, NULL);
  errno = code;
}

/* A signal's handler: calls nothing but what is safe in one. */
static void die(int signal)
{
  take();
  for (size_t i = 0; i < FILES && owner == getpid(); i++)
    if (files[i]) unlink(files[i]);
  /* By the signal itself, so that a shell knows what happened. */
  struct sigaction action = {.sa_handler = SIG_DFL};
  sigset_t set;
  sigemptyset(&action.sa_mask);
  sigemptyset(&set);
  sigaddset(&set, signal);
  sigaction(signal, &action, NULL);
  raise(signal);
  pthread_sigmask(SIG_UNBLOCK, &set, NULL);
  _exit(128 + signal); /* the first process of a container outlives its signals */
}

void xf_cli_unfinished_end_by(int signal)
{
  struct sigaction action = {.sa_handler = die, .sa_mask = ending_set()};
  sigaction(signal, &action, NULL);
}

/* Commands that do not watch for signals end by the first one. */
static void replace_defaults(void)
{
  struct sigaction action;
  for (const int *s = xf_cli_ending_signals; *s; s++)
    if (sigaction(*s, NULL, &action) == 0 && action.sa_handler == SIG_DFL)
      xf_cli_unfinished_end_by(*s);
}

/* The file's entry, or a free one for NULL. */
static const char **entry_of(const char *path)
{
  for (size_t i = 0; i < FILES; i++)
    if (files[i] == path) return &files[i];
  return NULL;
}

int xf_cli_unfinished_create(const char *path)
{
  int descriptor = -1;
  sigset_t old = begin();
  const char **entry = entry_of(NULL);
  owner = getpid();
  replace_defaults();
  errno = EMFILE;
  if (entry) descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (descriptor >= 0) *entry = path;
  end(&old);
  return descriptor;
}

static void forget(const char *path)
{
  const char **entry = entry_of(path);
  if (entry) *entry = NULL;
}

int xf_cli_unfinished_rename(const char *path, const char *target)
{
  sigset_t old = begin();
  int failed = rename(path, target);
  if (!failed) forget(path);
  end(&old);
  return failed;
}

void xf_cli_unfinished_remove(const char *path)
{
  sigset_t old = begin();
  unlink(path);
  forget(path);
  end(&old);
}
