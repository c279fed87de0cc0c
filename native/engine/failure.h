// What went wrong, on its way from a native library to the host.
#pragma once

#include <exception>
#include <optional>
#include <string>
#include <utility>

#include "c10d.h"

namespace c10d {

/// A failed op or connection attempt. Thrown by transports, caught by the engine, never seen by the host as an exception.
class Failure : public std::exception {
 public:
  Failure(int32_t status, std::string text, int32_t peer = -1) : status_(status), peer_(peer), text_(std::move(text)) {}

  /// One of c10d_status.
  int32_t status() const { return status_; }
  /// Rank that caused it, or -1.
  int32_t peer() const { return peer_; }
  const std::string& text() const { return text_; }
  const char* what() const noexcept override { return text_.c_str(); }

  /// Whether the group can go on after it: the op was refused before anything was sent.
  bool harmless() const { return status_ == C10D_ERR_INVALID || status_ == C10D_ERR_UNSUPPORTED; }

 private:
  int32_t status_;
  int32_t peer_;
  std::string text_;
};

/// Calls into a library; whatever it throws becomes a Failure.
template <class Call>
std::optional<Failure> attempt(Call call) noexcept {
  try {
    call();
    return std::nullopt;
  } catch (const Failure& error) {
    return error;
  } catch (const std::exception& error) {
    return Failure(C10D_ERR_BACKEND, error.what());
  } catch (...) {
    return Failure(C10D_ERR_BACKEND, "unknown native exception");
  }
}

}  // namespace c10d
