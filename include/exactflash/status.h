/* Status codes, error text and versions. */
#ifndef EXACTFLASH_STATUS_H
#define EXACTFLASH_STATUS_H

#include <stddef.h>
#include <stdint.h>

/* Marks the functions that the shared library exports. */
#define XF_API __attribute__((visibility("default")))

#ifdef __cplusplus
extern "C" {
#endif

/* The library never prints, exits or aborts: every failure is one of these. */
typedef enum xf_status {
  XF_OK = 0,
  XF_E_ARGUMENT,    /* a NULL, zero or out-of-range argument or option */
  XF_E_SHAPE,       /* shapes that do not fit each other */
  XF_E_UNSUPPORTED, /* well-formed, but nothing here can do it (another architecture, dtype, …) */
  XF_E_CPU,         /* the CPU lacks an instruction set that was asked for */
  XF_E_FILE,        /* the operating system could not open, read, map or write a file */
  XF_E_FORMAT,      /* a file that is truncated, corrupt or contradicts itself */
  XF_E_MEMORY,      /* an allocation failed */
  XF_E_CACHE_FULL,  /* the KV cache cannot hold the tokens; nothing was changed */
  XF_E_CANCELLED    /* a progress callback asked to stop; nothing was changed */
} xf_status;

/* The caller's; filled on failure where a function takes one (NULL: no text wanted). The message is
 * one line of UTF-8 that names the file, the field and the remedy. */
typedef struct xf_error {
  xf_status status;
  char message[500];
} xf_error;

/* A short English name such as "out of memory"; "unknown status" for other values. */
XF_API const char *xf_status_string(xf_status status);

/* ABI version of the library in use: major << 16 | minor << 8 | patch. */
XF_API uint32_t xf_version(void);

/* Number of the order of operations (docs/numerics.md). Results are bit-identical between two
 * builds, machines or ISAs exactly when this number is equal. */
XF_API uint32_t xf_numerics_version(void);

#ifdef __cplusplus
}
#endif
#endif
