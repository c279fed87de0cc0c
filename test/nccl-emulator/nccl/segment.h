// The memory that the ranks of one communicator share.
//
// It has no name in the file system, so that nothing is left behind when processes are killed: the maker of the unique
// id holds a memfd, which the other ranks open through /proc/<pid>/fd. It never shrinks, so no access to it can fail.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>

#include "nccl_api.h"

namespace nccl_emulator {

constexpr int max_ranks = 64;

/// What one rank tells the others while they make a new communicator out of this one.
struct Offer {
  std::atomic<uint32_t> round;         ///< The number of the split, shrink or grow that color and key are of.
  std::atomic<uint32_t> leader_round;  ///< The same for the id.
  int32_t color, key;
  ncclUniqueId id;
};

enum class SlotState : uint32_t { free, claimed, joined, left, aborted };

struct alignas(64) Slot {
  std::atomic<SlotState> state;
  int32_t pid, device;
  int32_t release;
  uint64_t host;
  /// Grows whenever there may be something new for this rank.
  alignas(64) std::atomic<uint32_t> bell;
  std::atomic<uint32_t> sleepers;
  // A second round of offers can begin, but no third, while a rank still reads the first.
  alignas(64) std::array<Offer, 2> split, shrink, grow;
};

/// Bytes of one rank for another, first in, first out.
struct Ring {
  alignas(64) std::atomic<uint64_t> written;
  alignas(64) std::atomic<uint64_t> read;
};

enum class Channel { collectives, messages };

struct SegmentHeader {
  std::array<char, 16> token;
  std::atomic<int32_t> ranks;    ///< 0 until the first rank has come.
  std::atomic<int32_t> arrived;  ///< How many ranks have all they need.
  std::array<Slot, max_ranks> slots;
};

/// What a unique id holds.
struct SegmentName {
  std::array<char, 8> magic;
  std::array<char, 16> token;
  int32_t pid, fd;
  uint64_t inode;

  static ncclUniqueId make();  ///< Throws std::system_error.
  static bool read(const ncclUniqueId& id, SegmentName* name);
  /// Closes the descriptors of ids whose ranks have all arrived.
  static void close_used();
};

class Segment {
 public:
  enum class Failure { none, spent, maker_gone, system };
  static std::unique_ptr<Segment> open(const SegmentName& name, int ranks, Failure* failure);
  ~Segment();
  Segment(const Segment&) = delete;
  Segment& operator=(const Segment&) = delete;

  SegmentHeader& header() { return *header_; }
  Slot& slot(int rank) { return header_->slots[static_cast<size_t>(rank)]; }
  int ranks() const { return ranks_; }

  Ring& ring(int from, int to, Channel channel);
  char* ring_data(Ring& ring) { return reinterpret_cast<char*>(&ring + 1); }
  size_t ring_bytes() const { return ring_bytes_; }

  void wake(int rank);
  void wake_all();
  /// Sleeps until this rank is woken, 5 ms at most, unless `ready`.
  void sleep(int rank, const std::function<bool()>& ready);

 private:
  Segment(void* memory, size_t bytes, int ranks);
  static size_t ring_size(int ranks);
  static size_t size(int ranks);

  SegmentHeader* header_;
  size_t bytes_;
  int ranks_;
  size_t ring_bytes_;
};

}  // namespace nccl_emulator
