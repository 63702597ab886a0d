/* How an operation reports failure: `return xf_fail(error, XF_E_FORMAT, "%s: …", path)`. */
#ifndef XF_ERROR_H
#define XF_ERROR_H

#include "exactflash/status.h"

/* Fills *error (NULL: nothing to fill) and returns status. The message becomes one line of
 * UTF-8: parts of files need no check, and a message too long is cut between characters. */
__attribute__((format(printf, 3, 4))) xf_status xf_fail(xf_error *error, xf_status status,
                                                        const char *format, ...);

#endif
