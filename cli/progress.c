#include "cli/progress.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/interrupt.h"

static int width; /* of the line that is on the terminal */

static const char *title(const char *stage)
{
  if (strcmp(stage, "load") == 0) return "loading the model";
  if (strcmp(stage, "convert") == 0) return "converting";
  if (strcmp(stage, "prefill") == 0) return "reading the prompt";
  return stage;
}

void xf_cli_progress_clear(void)
{
  if (width) fprintf(stderr, "\r%*s\r", width, "");
  width = 0;
}

int xf_cli_progress(void *arg, const char *stage, size_t done, size_t total)
{
  (void)arg;
  int stop = xf_cli_interrupted() != 0; /* before what is shown: an answer to it is for later */
  if (isatty(STDERR_FILENO)) {
    xf_cli_progress_clear();
    if (done < total)
      width = fprintf(stderr, "%s: %3.0f %%", title(stage), 100.0 * (double)done / (double)total);
    fflush(stderr);
  }
  return stop;
}
