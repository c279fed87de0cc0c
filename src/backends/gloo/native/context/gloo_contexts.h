// The contexts of a group, one for each network interface. An op's tag selects its context, as in PyTorch.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "context/gloo_context.h"

namespace c10d::gloo_shim {

class GlooContexts {
 public:
  /// At least one, all of the same ranks.
  explicit GlooContexts(std::vector<std::shared_ptr<GlooContext>> contexts) : contexts_(std::move(contexts)) {}

  int rank() const { return contexts_.front()->rank; }
  int size() const { return contexts_.front()->size; }
  const std::shared_ptr<GlooContext>& of(uint64_t tag) const { return contexts_[tag % contexts_.size()]; }

  void settle() const {
    for (const auto& context : contexts_) context->settle();
  }
  /// On all of them, since any may be the first to break.
  void send_mismatch(const std::vector<char>& message) const {
    for (const auto& context : contexts_) context->send_mismatch(message);
  }
  void abort(const std::string& reason) const {
    for (const auto& context : contexts_) context->abort(reason);
  }
  int awaited_rank() const {
    for (const auto& context : contexts_) {
      if (const int rank = context->awaited_rank(); rank >= 0) return rank;
    }
    return -1;
  }

 private:
  const std::vector<std::shared_ptr<GlooContext>> contexts_;
};

}  // namespace c10d::gloo_shim
