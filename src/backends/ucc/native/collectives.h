// Ops of the shim ABI as collectives of UCC.
#pragma once

#include <ucc/api/ucc.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "comparison/agreement.h"
#include "comparison/call_table.h"
#include "element_types.h"
#include "ops/op.h"
#include "request.h"

namespace c10d::ucc_shim {

/// An op in flight: one request of UCC, or several for an op on a list of tensors.
class Running {
 public:
  explicit Running(const ComparisonSetup& setup)
      : team_(setup.collectives), rank_(setup.rank), world_size_(setup.world_size), agreement_(setup) {}
  Running(const Running&) = delete;
  Running& operator=(const Running&) = delete;

  /// Posts the op's requests. Throws Failure. After any failure this object cannot be used again, but UCC may still use
  /// what it holds.
  void begin(Op& op);
  /// For a collective of ranks on several hosts: posts the comparison of their calls. resume() does the rest.
  void begin_comparison(Op& op);
  /// Takes an op without beginning it.
  void hold(Op& op) { op_ = &op; }
  /// Whether the ranks are still comparing, so that the op itself has not begun.
  bool compares() const { return stage_ == Stage::comparison; }
  /// For such an op, when all requests have succeeded and no earlier op is comparing. Returns whether the op has ended,
  /// because its data arrived with the comparison. Throws Failure if the calls do not match.
  bool resume();
  Op& op() const { return *op_; }
  /// An error if a request has failed, otherwise UCC_INPROGRESS until all have ended, then UCC_OK.
  ucc_status_t test() const;
  /// Whether it is a recv whose header has not been read yet. Of several with the same sender and tag, the first to
  /// begin has to be the first to read its header.
  bool awaits_header() const { return stage_ == Stage::header; }
  bool same_channel(const Running& other) const;
  /// For such a recv, when all requests have succeeded: reads the header. Throws Failure if the message is not what
  /// this rank expects. Returns whether the rest is in flight now.
  bool take_header();
  /// When all requests have succeeded: releases them and completes the op. Then the next op may begin. Throws Failure.
  void end();

  /// What the ranks of this host compare, for collectives.
  CallTable::Entry entry;

 private:
  /// Counts and displacements of a vector collective.
  struct Vector {
    std::vector<ucc_count_t> counts;
    std::vector<ucc_aint_t> displacements;
  };

  void post();
  void post(ucc_coll_args_t& args);
  void all_reduce(const c10d_buffer& data);
  void broadcast();
  void reduce();
  void all_gather(const c10d_buffer& input, const c10d_buffer& output);
  void all_gather_list();
  void gather();
  void scatter();
  void reduce_scatter(const c10d_buffer& input, const c10d_buffer& output);
  void reduce_scatter_list();
  void all_to_all();
  void send();
  void recv();
  void message(const void* data, size_t bytes, uint32_t tag);
  void release();
  void barrier();

  ucc_coll_buffer_info_t bytes_of(const c10d_buffer& buffer) const;
  ucc_coll_buffer_info_t elements_of(const c10d_buffer& buffer) const;
  ucc_coll_buffer_info_v_t bytes_of(const std::vector<c10d_buffer>& buffers);
  std::vector<c10d_buffer> parts_of(const c10d_buffer& whole, const std::vector<uint64_t>& splits) const;
  ElementType type() const;
  bool divides_after_sum() const;
  ucc_reduction_op_t reduction_of_op() const;
  bool at_root() const { return op_->request.peer == rank_; }

  Op* op_ = nullptr;
  const ucc_team_h team_;
  const int rank_;
  const int world_size_;
  Agreement agreement_;
  std::vector<Request> requests_;
  std::vector<std::unique_ptr<Vector>> vectors_;
  /// The copy of a list, where UCC requires one buffer; of a message, its first part.
  std::vector<char> flat_;
  enum class Stage : uint8_t { whole, header, comparison };
  Stage stage_ = Stage::whole;
};

}  // namespace c10d::ucc_shim
