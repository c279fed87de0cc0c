#pragma once

#include <sys/types.h>

namespace c10d::mpi_shim {

/// The socket to the launcher that a rank of MPICH inherits.
///
/// From release 4.2 on MPICH tells its launcher that a rank ends well not in MPI_Finalize but in an `atexit` handler,
/// which never runs in Bun; and a rank that ends without a word has the launcher kill the others.
class PmiSocket {
 public:
  PmiSocket();

  /// Says that this rank ends well, unless MPI has said so and closed the socket.
  void finalize() const;

 private:
  int fd_ = -1;
  ino_t inode_ = 0;
};

}  // namespace c10d::mpi_shim
