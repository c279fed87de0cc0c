// The meshes of a group: one for each network interface, of which an op uses that of its tag, as in PyTorch.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "mesh.h"

namespace c10d::gloo_shim {

class Meshes {
 public:
  /// At least one, all of the same ranks.
  explicit Meshes(std::vector<std::shared_ptr<Mesh>> meshes) : meshes_(std::move(meshes)) {}

  int rank() const { return meshes_.front()->rank; }
  int size() const { return meshes_.front()->size; }
  const std::shared_ptr<Mesh>& of(uint64_t tag) const { return meshes_[tag % meshes_.size()]; }

  void settle() const {
    for (const auto& mesh : meshes_) mesh->settle();
  }
  /// On all, each of which may be the first to break.
  void send_note(const std::vector<char>& note) const {
    for (const auto& mesh : meshes_) mesh->send_note(note);
  }
  void abort(const std::string& reason) const {
    for (const auto& mesh : meshes_) mesh->abort(reason);
  }
  int awaited_rank() const {
    for (const auto& mesh : meshes_) {
      if (const int rank = mesh->awaited_rank(); rank >= 0) return rank;
    }
    return -1;
  }

 private:
  const std::vector<std::shared_ptr<Mesh>> meshes_;
};

}  // namespace c10d::gloo_shim
