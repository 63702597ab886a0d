/* A plot of a few lines of bytes over logarithmic axes, as SVG. */
#ifndef XF_CLI_PLOT_H
#define XF_CLI_PLOT_H

#include <stdbool.h>
#include <stddef.h>

struct xf_cli_line {
  const char *name, *colour;
  const double *y; /* [n]; points that are not > 0 are left out */
  bool dots;       /* measured points, not a line */
};

struct xf_cli_plot {
  const char *title, *x_name;
  const double *x; /* [n], > 0, ascending: each gets a mark on the axis */
  size_t n;
  const struct xf_cli_line *lines;
  size_t n_lines;
};

/* Writes the file whole or not at all; "-" is stdout. Returns an exit code, failures reported. */
int xf_cli_plot_write(const struct xf_cli_plot *plot, const char *path);

#endif
