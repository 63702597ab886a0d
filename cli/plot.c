#include "cli/plot.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli/file.h"
#include "cli/report.h"

enum { WIDTH = 720, HEIGHT = 440, LEFT = 80, RIGHT = 250, TOP = 50, BOTTOM = 60 };

/* Decimal logarithms at the ends of an axis. */
struct axis {
  double low, high;
};

struct page {
  FILE *svg;
  const struct xf_cli_plot *plot;
  struct axis x, y;
};

static double place(const struct axis *axis, double value, double from, double to)
{
  return from + (log10(value) - axis->low) / (axis->high - axis->low) * (to - from);
}

static double x_of(const struct page *p, double value)
{
  return place(&p->x, value, LEFT, WIDTH - RIGHT);
}

static double y_of(const struct page *p, double value)
{
  return place(&p->y, value, HEIGHT - BOTTOM, TOP);
}

/* Whole decades around all points. */
static struct axis decades(const struct xf_cli_plot *plot)
{
  struct axis axis = {INFINITY, -INFINITY};
  for (size_t l = 0; l < plot->n_lines; l++)
    for (size_t i = 0; i < plot->n; i++) {
      double value = plot->lines[l].y[i];
      if (!(value > 0)) continue;
      axis.low = fmin(axis.low, floor(log10(value)));
      axis.high = fmax(axis.high, ceil(log10(value)));
    }
  if (!(axis.low < axis.high)) axis.high = (axis.low = isfinite(axis.low) ? axis.low : 0) + 1;
  return axis;
}

static void draw_axes(const struct page *p)
{
  const char *text = "<text x='%.1f' y='%.1f' text-anchor='%s'>%s</text>\n";
  const char *grid = "<path d='M%.1f %.1fL%.1f %.1f' stroke='#ddd'/>\n";
  static const char *const units[] = {"B", "kB", "MB", "GB", "TB"};
  char label[32];
  fprintf(p->svg, text, LEFT + 0.0, TOP - 22.0, "start", p->plot->title);
  fprintf(p->svg, text, (LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - 15.0, "middle", p->plot->x_name);
  for (size_t i = 0; i < p->plot->n; i++) {
    double x = x_of(p, p->plot->x[i]);
    fprintf(p->svg, grid, x, TOP + 0.0, x, HEIGHT - BOTTOM + 0.0);
    snprintf(label, sizeof label, "%.0f", p->plot->x[i]);
    fprintf(p->svg, text, x, HEIGHT - BOTTOM + 18.0, "middle", label);
  }
  for (int decade = (int)p->y.low; decade <= (int)p->y.high; decade++) {
    double y = y_of(p, pow(10, decade));
    int unit = decade < 0 ? 0 : decade / 3 > 4 ? 4 : decade / 3;
    fprintf(p->svg, grid, LEFT + 0.0, y, WIDTH - RIGHT + 0.0, y);
    snprintf(label, sizeof label, "%g %s", pow(10, decade - 3 * unit), units[unit]);
    fprintf(p->svg, text, LEFT - 6.0, y + 4, "end", label);
  }
}

static void draw_line(const struct page *p, size_t index)
{
  const struct xf_cli_line *line = &p->plot->lines[index];
  double y = TOP + 12.0 + 22.0 * (double)index, x = WIDTH - RIGHT + 15.0;
  fprintf(p->svg, "<g fill='%s' stroke='%s'>\n", line->dots ? line->colour : "none", line->colour);
  const char *dot = "<circle cx='%.1f' cy='%.1f' r='4'/>\n";
  if (!line->dots) fputs("<path stroke-width='2' d='", p->svg);
  for (size_t i = 0, drawn = 0; i < p->plot->n; i++) {
    if (!(line->y[i] > 0)) continue;
    if (line->dots)
      fprintf(p->svg, dot, x_of(p, p->plot->x[i]), y_of(p, line->y[i]));
    else
      fprintf(p->svg, "%c%.1f %.1f", drawn++ ? 'L' : 'M', x_of(p, p->plot->x[i]),
              y_of(p, line->y[i]));
  }
  if (line->dots)
    fprintf(p->svg, dot, x + 10, y);
  else
    fprintf(p->svg, "M%.1f %.1fh20'/>\n", x, y);
  fprintf(p->svg, "</g>\n<text x='%.1f' y='%.1f'>%s</text>\n", x + 26, y + 4, line->name);
}

static void draw(const struct page *p)
{
  fprintf(p->svg,
          "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 %d %d' font-family='sans-serif' "
          "font-size='12'>\n<rect width='100%%' height='100%%' fill='white'/>\n",
          WIDTH, HEIGHT);
  draw_axes(p);
  for (size_t l = 0; l < p->plot->n_lines; l++) draw_line(p, l);
  fputs("</svg>\n", p->svg);
}

int xf_cli_plot_write(const struct xf_cli_plot *plot, const char *path)
{
  char *text = NULL;
  size_t bytes = 0;
  struct page page = {.svg = open_memstream(&text, &bytes), .plot = plot, .y = decades(plot)};
  page.x = (struct axis){log10(plot->x[0]), log10(plot->x[plot->n - 1])};
  if (!page.svg) return xf_cli_fail("out of memory for the plot");
  draw(&page);
  int lost = ferror(page.svg);
  if (fclose(page.svg) || lost) {
    free(text);
    return xf_cli_fail("out of memory for the plot");
  }
  struct xf_cli_output output;
  int code = xf_cli_output_open(&output, path);
  if (!code) code = xf_cli_output_write(&output, text, bytes);
  if (!code) code = xf_cli_output_commit(&output);
  xf_cli_output_discard(&output);
  free(text);
  return code;
}
