#include "model/protobuf.h"

#include <stdbool.h>

static bool read_varint(struct xf_message *message, uint64_t *value)
{
  *value = 0;
  for (unsigned shift = 0; shift < 64 && message->bytes > 0; shift += 7) {
    uint64_t byte = *message->data++;
    message->bytes--;
    if (shift == 63 && byte > 1) return false;
    *value |= (byte & 0x7F) << shift;
    if (byte < 0x80) return true;
  }
  return false;
}

static bool read_fixed(struct xf_message *message, size_t bytes, uint64_t *value)
{
  if (message->bytes < bytes) return false;
  *value = 0;
  for (size_t i = 0; i < bytes; i++) *value |= (uint64_t)message->data[i] << (8 * i);
  message->data += bytes;
  message->bytes -= bytes;
  return true;
}

static bool read_bytes(struct xf_message *message, struct xf_message *out)
{
  uint64_t bytes;
  if (!read_varint(message, &bytes) || bytes > message->bytes) return false;
  *out = (struct xf_message){message->data, (size_t)bytes};
  message->data += bytes;
  message->bytes -= (size_t)bytes;
  return true;
}

int xf_message_next(struct xf_message *message, struct xf_field *field)
{
  if (message->bytes == 0) return 0;
  uint64_t key;
  if (!read_varint(message, &key) || key >> 3 == 0 || key > UINT32_MAX) return -1;
  *field = (struct xf_field){.number = (uint32_t)(key >> 3), .wire = (enum xf_wire)(key & 7)};
  switch (key & 7) {
  case XF_WIRE_VARINT: return read_varint(message, &field->value) ? 1 : -1;
  case XF_WIRE_FIXED64: return read_fixed(message, 8, &field->value) ? 1 : -1;
  case XF_WIRE_BYTES: return read_bytes(message, &field->bytes) ? 1 : -1;
  case XF_WIRE_FIXED32: return read_fixed(message, 4, &field->value) ? 1 : -1;
  default: return -1; /* groups, which proto2 gave up, and what was never defined */
  }
}
