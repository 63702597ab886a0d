#include "dispatch/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Drops a UTF-8 character that vsnprintf cut at the end of the buffer. */
static void drop_cut_character(char *text)
{
  size_t end = strlen(text), start = end;
  while (start > 0 && ((unsigned char)text[start - 1] & 0xC0) == 0x80) start--;
  if (start == 0) return;
  unsigned char lead = (unsigned char)text[start - 1];
  size_t need = lead >= 0xF0 ? 3 : lead >= 0xE0 ? 2 : lead >= 0xC0 ? 1 : 0;
  if (end - start < need) text[start - 1] = '\0';
}

/* Names from a hostile file may hold control characters; the message must stay one line. */
static void mask_controls(char *text)
{
  for (; *text; text++)
    if ((unsigned char)*text < 0x20 || *text == 0x7F) *text = '?';
}

xf_status xf_fail(xf_error *error, xf_status status, const char *format, ...)
{
  if (!error) return status;
  error->status = status;
  va_list arguments;
  va_start(arguments, format);
  int length = vsnprintf(error->message, sizeof error->message, format, arguments);
  va_end(arguments);
  if (length >= (int)sizeof error->message) drop_cut_character(error->message);
  mask_controls(error->message);
  return status;
}
