#include "signature.h"

#include "engine/failure.h"
#include "small_op.h"

namespace c10d::mpi_shim {

Signature signature_of(const Op& op) {
  Signature made;
  made.call = call_of(op);
  return made;
}

void set_parts(Signature& signature, const Op& op, int other, int size) {
  signature.sent = part_to(op, other, size).bytes;
  signature.expected = part_from(op, other, size).bytes;
}

void require_same(const Signature& own, int rank, const Signature& theirs, int other) {
  if (!agree(own.call, theirs.call)) {
    throw Failure(C10D_ERR_DESYNC, mismatch_text(rank, own.call, other, theirs.call), other);
  }
  if (own.sent != theirs.expected) {
    throw Failure(C10D_ERR_DESYNC, split_mismatch_text(own.call, rank, own.sent, other, theirs.expected), other);
  }
  if (theirs.sent != own.expected) {
    throw Failure(C10D_ERR_DESYNC, split_mismatch_text(own.call, other, theirs.sent, rank, own.expected), other);
  }
}

}  // namespace c10d::mpi_shim
