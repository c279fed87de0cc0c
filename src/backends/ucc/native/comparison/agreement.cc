#include "comparison/agreement.h"

#include <cstring>

#include "ops/hash.h"
#include "ops/op_parts.h"
#include "ops/signature.h"
#include "reduction/reduction.h"
#include "reduction/small_op.h"

namespace c10d::ucc_shim {

namespace {

/// The most bytes that are gathered, of all ranks together.
constexpr size_t kMaxGathered = 16 * 1024;

bool can_be_carried(const Op& op, int world_size) {
  const auto& request = op.request;
  if (is_reduction(request.opcode) && find_reduction(request.dtype, request.reduce_op) == nullptr) return false;
  return bytes_for_all(op, world_size) <= kMostCarried;
}

uint64_t hash_of_part(int from, int to, uint64_t bytes) {
  return mixed(mixed(mixed(0, static_cast<uint64_t>(from)), static_cast<uint64_t>(to)), bytes);
}

Request reduce(ucc_team_h team, uint64_t* words, size_t count, ucc_reduction_op_t op) {
  ucc_coll_args_t args{};
  args.coll_type = UCC_COLL_TYPE_ALLREDUCE;
  args.flags = UCC_COLL_ARGS_FLAG_IN_PLACE;
  args.src.info = args.dst.info = {words, count, UCC_DT_UINT64, UCC_MEMORY_TYPE_HOST};
  args.op = op;
  return {team, args};
}

}  // namespace

bool ComparisonSetup::suits_gathering(int world_size) {
  const auto ranks = static_cast<size_t>(world_size);
  return ranks * (sizeof(Call) + kMostCarried + 2 * ranks * sizeof(uint64_t)) <= kMaxGathered;
}

size_t Agreement::slot_bytes(bool with_data) const { return data_at() + (with_data ? kMostCarried : 0); }

uint8_t* Agreement::slot(int rank) { return slots_.data() + static_cast<size_t>(rank) * slot_bytes_; }

Agreement::Header Agreement::header_of(int rank) {
  Header header;
  std::memcpy(&header, slot(rank), sizeof header);
  return header;
}

uint64_t Agreement::part(int rank, int other, bool sent) {
  const auto at = static_cast<size_t>(other + (sent ? 0 : in_.world_size));
  uint64_t bytes = 0;
  std::memcpy(&bytes, slot(rank) + parts_at() + at * sizeof bytes, sizeof bytes);
  return bytes;
}

void Agreement::begin(const Op& op) {
  is_all_to_all_ = is_all_to_all(op);
  carries_data_ = in_.gathers && can_be_carried(op, in_.world_size);
  if (in_.gathers) {
    write_slot(op, true);
    gather(in_.comparisons);
    stage_ = Stage::gathering;
  } else {
    hash(op);
    stage_ = Stage::hashing;
  }
}

void Agreement::write_slot(const Op& op, bool with_data) {
  slot_bytes_ = slot_bytes(with_data);
  own_.assign(slot_bytes_, 0);
  const Header header{call_of(op), carries_data_ ? uint64_t{1} : 0};
  std::memcpy(own_.data(), &header, sizeof header);
  uint8_t* at = own_.data() + parts_at();
  for (const bool sent : {true, false}) {
    for (int rank = 0; rank < in_.world_size; rank++, at += sizeof(uint64_t)) {
      const uint64_t bytes = (sent ? part_to(op, rank, in_.world_size) : part_from(op, rank, in_.world_size)).bytes;
      std::memcpy(at, &bytes, sizeof bytes);
    }
  }
  if (carries_data_) copy_for_all(op, in_.rank, in_.world_size, own_.data() + data_at());
}

void Agreement::gather(ucc_team_h team) {
  slots_.resize(static_cast<size_t>(in_.world_size) * slot_bytes_);
  ucc_coll_args_t args{};
  args.coll_type = UCC_COLL_TYPE_ALLGATHER;
  args.src.info = bytes_at(own_.data(), own_.size());
  args.dst.info = bytes_at(slots_.data(), slots_.size());
  requests_.emplace_back(team, args);
}

void Agreement::hash(const Op& op) {
  const uint64_t own = hash_of(0, call_of(op));
  extremes_[0] = own;
  extremes_[1] = ~own;
  difference_ = 0;
  for (int rank = 0; rank < in_.world_size && is_all_to_all_; rank++) {
    difference_ += hash_of_part(in_.rank, rank, part_to(op, rank, in_.world_size).bytes);
    difference_ -= hash_of_part(rank, in_.rank, part_from(op, rank, in_.world_size).bytes);
  }
  requests_.push_back(reduce(in_.comparisons, extremes_, 2, UCC_OP_MAX));
  requests_.push_back(reduce(in_.comparisons, &difference_, 1, UCC_OP_SUM));
}

bool Agreement::hashes_agree() const { return extremes_[0] == ~extremes_[1] && difference_ == 0; }

ucc_status_t Agreement::test() const {
  for (const auto& request : requests_) {
    const ucc_status_t status = request.test();
    if (status != UCC_OK) return status;
  }
  return UCC_OK;
}

void Agreement::release() {
  while (!requests_.empty()) {
    requests_.back().release();
    requests_.pop_back();
  }
}

bool Agreement::decide(const Op& op) {
  switch (stage_) {
    case Stage::gathering:
      release();
      compare_slots();
      for (int rank = 0; rank < in_.world_size; rank++) {
        if (header_of(rank).carries_data == 0) carries_data_ = false;
      }
      break;
    case Stage::hashing:
      if (!hashes_agree()) {
        release();
        // On every rank, nothing else uses the team of the collectives at this place in their order.
        write_slot(op, false);
        gather(in_.collectives);
        stage_ = Stage::explaining;
        return false;
      }
      release();
      break;
    case Stage::explaining:
      release();
      compare_slots();
      throw Failure(C10D_ERR_BACKEND, "the calls of the ranks match, although the hashes that UCC reduced do not");
    case Stage::agreed:
      break;
  }
  stage_ = Stage::agreed;
  return true;
}

/// All ranks compare in the same order, so all find the same two.
void Agreement::compare_slots() {
  for (int rank = 1; rank < in_.world_size; rank++) compare(0, rank);
  if (!is_all_to_all_) return;
  for (int rank = 1; rank < in_.world_size; rank++) {
    for (int other = rank + 1; other < in_.world_size; other++) compare(rank, other);
  }
}

void Agreement::compare(int rank, int other) {
  // The failure's peer is not this rank.
  if (other == in_.rank) return compare(other, rank);
  const auto signature = [this](int from, int to) {
    return Signature{header_of(from).call, part(from, to, true), part(from, to, false)};
  };
  require_same(signature(rank, other), rank, signature(other, rank), other);
}

void Agreement::finish(const Op& op) {
  finish_small(op, in_.rank, in_.world_size, [&](int from) {
    uint64_t offset = offset_of_part(op, in_.rank, in_.world_size);
    for (int to = 0; to < in_.rank && is_all_to_all_; to++) offset += part(from, to, true);
    return slot(from) + data_at() + offset;
  });
}

}  // namespace c10d::ucc_shim
