// Errors that UCC and UCX report only in their logs.
#pragma once

#include <cstdarg>
#include <string>

namespace c10d::ucc_shim {

/// Listens to the logs of UCX and of UCC, whose library handle this is, for the life of the process.
void listen_to_log(void* ucc);

/// The errors that are logged while UCC is called for one group. A thread may serve several groups, one after the
/// other.
class Log {
 public:
  Log() = default;
  Log(const Log&) = delete;
  Log& operator=(const Log&) = delete;

  /// While it exists, errors that this thread logs belong to the group.
  class Call {
   public:
    explicit Call(Log& log);
    ~Call();
    Call(const Call&) = delete;
    Call& operator=(const Call&) = delete;

   private:
    Log* const outer_;
  };

  /// Keeps only the first error.
  void record(const char* format, va_list arguments);
  bool empty() const { return first_error_[0] == '\0'; }
  std::string take();

 private:
  char first_error_[256] = {};
};

/// Whether an error was logged for the group that this thread serves since the last call of take_logged_error().
bool logged_error();
/// The first error that was logged for that group since the last call; empty if there was none. UCX_LOG_LEVEL=fatal
/// keeps errors from being logged.
std::string take_logged_error();

}  // namespace c10d::ucc_shim
