#pragma once

#include <sys/types.h>

namespace c10d::mpi_shim {

/// The socket to the launcher that a rank of MPICH inherits.
///
/// From release 4.2 on MPICH reports to its launcher that a rank ends cleanly not in MPI_Finalize but in an
/// `atexit` handler, which never runs in Bun. If a rank ends without that report, the launcher kills the others.
class PmiSocket {
 public:
  PmiSocket();

  /// Reports that this rank ends cleanly, unless MPI has reported it and closed the socket.
  void finalize() const;

 private:
  int fd_ = -1;
  ino_t inode_ = 0;
};

}  // namespace c10d::mpi_shim
