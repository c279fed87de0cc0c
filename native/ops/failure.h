// An error on its way from a native library to the host.
#pragma once

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <exception>
#include <new>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "c10d.h"
#include "ops/system_error.h"

namespace c10d {

/// A failed op or connection attempt. Thrown by transports and caught by the engine; the host never gets it as an
/// exception. The host decides by its fields; the text is for people.
class Failure : public std::exception {
 public:
  /// The status C10D_OK becomes C10D_ERR_BACKEND.
  Failure(int32_t status, std::string text, int32_t peer = -1)
      : status_(status == C10D_OK ? static_cast<int32_t>(C10D_ERR_BACKEND) : status),
        peer_(peer),
        text_(std::move(text)) {}

  /// The calls of two ranks do not match; -1 for a rank that is not known.
  static Failure of_mismatch(c10d_mismatch kind, std::string text, int32_t rank, int32_t other) {
    Failure failure(C10D_ERR_DESYNC, std::move(text), other);
    failure.mismatch_ = kind;
    for (const int32_t each : {rank, other}) {
      if (each >= 0) failure.ranks_.push_back(each);
    }
    return failure;
  }

  /// Caused by these ranks and no other.
  static Failure of_ranks(int32_t status, std::string text, std::vector<int32_t> ranks) {
    Failure failure(status, std::move(text), ranks.empty() ? -1 : ranks.front());
    failure.ranks_ = std::move(ranks);
    return failure;
  }

  /// A system call failed with `error`, an errno.
  static Failure of_system(const std::string& what, int error, int32_t status = C10D_ERR_BACKEND, int32_t peer = -1) {
    return of_shortage(what + ": " + std::strerror(error), error, status, peer);
  }
  /// The same with its own text.
  static Failure of_shortage(std::string text, int error, int32_t status = C10D_ERR_BACKEND, int32_t peer = -1) {
    Failure failure(status, std::move(text), peer);
    failure.system_error_ = error;
    return failure;
  }

  /// The library of the device returned `error`, with which the group cannot go on.
  static Failure of_device(std::string text, int error) {
    Failure failure(C10D_ERR_BACKEND, std::move(text));
    failure.device_error_ = error;
    return failure;
  }

  /// The same failure, of the collective with this number.
  Failure of_collective(uint64_t number) const {
    Failure failure(*this);
    failure.collective_ = number;
    return failure;
  }

  /// The same failure with another peer, and with `prefix` before its text.
  Failure about(int32_t peer, const std::string& prefix) const {
    Failure failure(*this);
    failure.peer_ = peer;
    failure.text_ = prefix + text_;
    return failure;
  }

  /// One of c10d_status.
  int32_t status() const { return status_; }
  /// Rank that this one waited for or lost, or -1; for a mismatch, the other rank.
  int32_t peer() const { return peer_; }
  const std::string& text() const { return text_; }
  const char* what() const noexcept override { return text_.c_str(); }
  c10d_mismatch mismatch() const { return mismatch_; }
  /// The two ranks of a mismatch, else those known to have caused it.
  const std::vector<int32_t>& ranks() const { return ranks_; }
  /// For a mismatch, the number of the collective that the ranks called differently; 0 if that is not known.
  uint64_t collective() const { return collective_; }
  /// Whether the collective with this number is unaffected, since it is before the mismatch.
  bool spares(uint64_t number) const { return number != 0 && number < collective_; }
  /// An errno, or 0.
  int32_t system_error() const { return system_error_; }

  /// What the library of the device returned, or 0.
  int32_t device_error() const { return device_error_; }

  /// Whether the group can continue after it: the op was refused before anything was sent.
  bool harmless() const { return status_ == C10D_ERR_INVALID || status_ == C10D_ERR_UNSUPPORTED; }

 private:
  int32_t status_;
  int32_t peer_;
  int32_t system_error_ = 0;
  int32_t device_error_ = 0;
  c10d_mismatch mismatch_ = C10D_MISMATCH_NONE;
  std::string text_;
  std::vector<int32_t> ranks_;
  uint64_t collective_ = 0;
};

/// Calls into a library; any exception becomes a Failure.
template <class Call>
std::optional<Failure> attempt(Call call) noexcept {
  try {
    call();
    return std::nullopt;
  } catch (const Failure& error) {
    return error;
  } catch (const std::bad_alloc& error) {
    return Failure::of_shortage(error.what(), ENOMEM);
  } catch (const std::system_error& error) {
    return Failure::of_shortage(error.what(), error.code().value());
  } catch (const std::exception& error) {
    return Failure::of_shortage(error.what(), system_error_in(error.what()));
  } catch (...) {
    return Failure(C10D_ERR_BACKEND, "unknown native exception");
  }
}

}  // namespace c10d
