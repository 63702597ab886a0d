/* Reads the fields of a protobuf message in memory.
 * Source: protobuf.dev/programming-guides/encoding. */
#ifndef XF_MODEL_PROTOBUF_H
#define XF_MODEL_PROTOBUF_H

#include <stddef.h>
#include <stdint.h>

/* What is left of a message. */
struct xf_message {
  const unsigned char *data;
  size_t bytes;
};

enum xf_wire { XF_WIRE_VARINT = 0, XF_WIRE_FIXED64 = 1, XF_WIRE_BYTES = 2, XF_WIRE_FIXED32 = 5 };

struct xf_field {
  uint32_t number;
  enum xf_wire wire;
  uint64_t value;          /* not for XF_WIRE_BYTES */
  struct xf_message bytes; /* XF_WIRE_BYTES only: a string, or a message inside this one */
};

/* 1: *field is the next one and the message is behind it; 0: there is none; −1: not a protobuf
 * message, or cut short. */
int xf_message_next(struct xf_message *message, struct xf_field *field);

#endif
