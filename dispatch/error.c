#include "dispatch/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "dispatch/utf8.h"

/* The message must stay one line of UTF-8, whatever a hostile file has put into it and wherever a
 * part of it was cut: all else becomes '?', and a character that the end has cut is dropped. */
static void sanitise(char *text)
{
  size_t n = strlen(text);
  for (size_t i = 0; i < n;) {
    int bytes = xf_utf8_character(text + i, n - i);
    bool control = (unsigned char)text[i] < 0x20 || text[i] == 0x7F;
    if (bytes == XF_UTF8_CUT)
      text[n = i] = '\0';
    else if (bytes == XF_UTF8_INVALID || control)
      text[i] = '?';
    i += bytes > 0 ? (size_t)bytes : 1;
  }
}

xf_status xf_fail(xf_error *error, xf_status status, const char *format, ...)
{
  if (!error) return status;
  error->status = status;
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(error->message, sizeof error->message, format, arguments);
  va_end(arguments);
  sanitise(error->message);
  return status;
}
