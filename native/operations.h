// The table of FUSE opcodes: one row says what a request is called, how long it is at least, and what answers it.
#pragma once

#include "server.h"

namespace orca {

struct Operation {
  const char* name;
  /// Bytes after the header.
  uint32_t minimum;
  void (*function)(Server&, const Request&);
  /// Whether the kernel waits for a reply.
  bool answered = true;
};

/// Null for an opcode that the table lacks.
const Operation* operationOf(uint32_t opcode);

}  // namespace orca
