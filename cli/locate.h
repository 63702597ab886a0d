/* Where two runs of a model part: every row that an operator makes is recorded by its hash, and the
 * first that differs is found. */
#ifndef XF_CLI_LOCATE_H
#define XF_CLI_LOCATE_H

#include <stdbool.h>

#include "exactflash/exactflash.h"

enum { XF_CLI_RECORDED = 8 /* most sequences */ };

/* A row: what an operator made of a position. order: the operator's number in a pass. */
struct xf_cli_place {
  size_t order, sequence, position;
};

struct xf_cli_record {
  const xf_cache *caches[XF_CLI_RECORDED]; /* of the sequences; changes with every run */
  size_t n_sequences, layers;
  size_t first[XF_CLI_RECORDED]; /* the positions looked at begin here … */
  size_t most;                   /* … and are so many */
  uint64_t *hashes;              /* by place; 0: not recorded */
  size_t order;                  /* of the operator that is running */
  const char *last_tensor;       /* and what it makes */
  int32_t last_layer;
  /* The row whose values are kept, where `keeps` says so. */
  bool keeps;
  struct xf_cli_place kept;
  char name[64]; /* "layer 3, qkv" */
  float *values; /* [n_values]; malloc */
  size_t n_values;
};

/* Allocates; false when out of memory. n_sequences, layers, first and most are set before. */
bool xf_cli_record_begin(struct xf_cli_record *record);
void xf_cli_record_free(struct xf_cli_record *record);

/* An xf_boundary, whose argument is the record: runs the operator and records what it made. */
xf_status xf_cli_record_operator(void *record, const xf_operator *op, xf_error *error);

/* The first row in the order of the model that both runs have and that differs; false: none. */
bool xf_cli_records_part(const struct xf_cli_record *a, const struct xf_cli_record *b,
                         struct xf_cli_place *place);

#endif
