#include "comparison/call_table.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "ops/op_parts.h"
#include "ops/signature.h"

namespace c10d::ucc_shim {

namespace {

/// How many collectives a rank may be ahead of another one and still be compared with it.
constexpr uint64_t kSlots = 128;
constexpr size_t kCacheLine = 64;
constexpr size_t kWords = sizeof(CallTable::Published) / sizeof(uint64_t);

/// Words that another process reads while they are written.
using Word = std::atomic<uint64_t>;
static_assert(Word::is_always_lock_free && sizeof(Word) == sizeof(uint64_t));

size_t whole_cache_lines(size_t bytes) { return (bytes + kCacheLine - 1) / kCacheLine * kCacheLine; }

/// A record, followed by the bytes sent to and received from each rank.
size_t stride(size_t world_size) { return whole_cache_lines((kWords + 1 + 2 * world_size) * sizeof(uint64_t)); }

}  // namespace

struct alignas(kCacheLine) CallTable::RankState {
  std::atomic<uint32_t> asleep;
  /// The last collective that the rank has reached.
  Word ticket;
};

/// The ticket is 0 while the other words are written.
struct alignas(kCacheLine) CallTable::Record {
  Word words[kWords];
  /// The ticket, once the collective has ended for the rank.
  Word ended;
  Word parts[];
};

size_t CallTable::bytes(size_t ranks, int world_size) {
  return ranks * (sizeof(RankState) + kSlots * stride(static_cast<size_t>(world_size)));
}

CallTable::CallTable(int fd, std::vector<int> local_ranks, const Config& config)
    : local_ranks_(std::move(local_ranks)), rank_(config.rank), world_size_(static_cast<size_t>(config.world_size)) {
  const size_t size = bytes(local_ranks_.size(), config.world_size);
  void* const memory = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  const int reason = errno;
  ::close(fd);
  if (memory == MAP_FAILED) throw Failure::of_system("mmap", reason);
  memory_ = memory;
  own_ = *place_of(rank_);
}

CallTable::~CallTable() { ::munmap(memory_, bytes(local_ranks_.size(), static_cast<int>(world_size_))); }

CallTable::RankState& CallTable::state(size_t place) const { return static_cast<RankState*>(memory_)[place]; }

CallTable::Record& CallTable::record(size_t place, uint64_t ticket) const {
  char* const records = static_cast<char*>(memory_) + local_ranks_.size() * sizeof(RankState);
  return *reinterpret_cast<Record*>(records + (place * kSlots + ticket % kSlots) * stride(world_size_));
}

std::optional<size_t> CallTable::place_of(int rank) const {
  const auto found = std::lower_bound(local_ranks_.begin(), local_ranks_.end(), rank);
  if (found == local_ranks_.end() || *found != rank) return std::nullopt;
  return static_cast<size_t>(found - local_ranks_.begin());
}

void CallTable::list_parts(const Op& op, Entry& entry) const {
  entry.parts.clear();
  if (!is_all_to_all(op)) return;
  const auto size = static_cast<int>(world_size_);
  for (int rank = 0; rank < size; rank++) entry.parts.push_back(part_to(op, rank, size).bytes);
  for (int rank = 0; rank < size; rank++) entry.parts.push_back(part_from(op, rank, size).bytes);
}

void CallTable::begin(const Op& op, Entry& entry) {
  list_parts(op, entry);
  Published& published = entry.own;
  published = {op.ticket, 0, call_of(op)};
  published.chain = chain_ = hash_of(chain_, published.call);
  Record& own = record(own_, published.ticket);
  uint64_t words[kWords];
  std::memcpy(words, &published, sizeof published);
  own.words[0].store(0, std::memory_order_relaxed);
  for (size_t i = 1; i < kWords; i++) own.words[i].store(words[i], std::memory_order_release);
  for (size_t i = 0; i < entry.parts.size(); i++) own.parts[i].store(entry.parts[i], std::memory_order_release);
  state(own_).ticket.store(published.ticket, std::memory_order_relaxed);
  // In one order for all ranks: of two ranks that arrive at the same time, at least one sees the other.
  own.words[0].store(published.ticket, std::memory_order_seq_cst);
  entry.missing.clear();
  for (uint32_t place = 0; place < local_ranks_.size(); place++) {
    if (place != own_) entry.missing.push_back(place);
  }
}

bool CallTable::compare(Entry& entry) const {
  size_t kept = 0;
  const size_t before = entry.missing.size();
  for (const uint32_t place : entry.missing) {
    const Record& theirs = record(place, entry.own.ticket);
    const uint64_t ticket = theirs.words[0].load(std::memory_order_seq_cst);
    if (ticket < entry.own.ticket) {
      // The rank may also be past this collective and be writing a later one.
      if (state(place).ticket.load(std::memory_order_relaxed) < entry.own.ticket + kSlots)
        entry.missing[kept++] = place;
      continue;
    }
    // So far ahead that its record was overwritten.
    if (ticket > entry.own.ticket) continue;
    const uint64_t chain = theirs.words[1].load(std::memory_order_acquire);
    if (chain == entry.own.chain && entry.parts.empty()) continue;
    uint64_t words[kWords];
    for (size_t i = 0; i < kWords; i++) words[i] = theirs.words[i].load(std::memory_order_acquire);
    std::vector<uint64_t> parts(entry.parts.size());
    for (size_t i = 0; i < parts.size(); i++) parts[i] = theirs.parts[i].load(std::memory_order_acquire);
    if (theirs.words[0].load(std::memory_order_relaxed) != ticket) continue;
    Published published;
    words[0] = ticket;
    std::memcpy(&published, words, sizeof published);
    require_match(entry, local_ranks_[place], published, parts);
  }
  entry.missing.resize(kept);
  return kept < before;
}

/// Throws Failure unless the calls match.
void CallTable::require_match(const Entry& entry, int rank, const Published& theirs,
                              const std::vector<uint64_t>& their_parts) const {
  const auto signature = [&](const c10d::Call& call, const std::vector<uint64_t>& parts, int for_rank) {
    const auto at = static_cast<size_t>(for_rank);
    return parts.empty() ? Signature{call} : Signature{call, parts[at], parts[world_size_ + at]};
  };
  require_same(signature(entry.own.call, entry.parts, rank), rank_, signature(theirs.call, their_parts, rank_), rank);
  if (theirs.chain == entry.own.chain) return;
  throw desync(C10D_MISMATCH_CALL, rank_, rank,
               "rank " + std::to_string(rank_) + " and rank " + std::to_string(rank) + " called " +
                   text_of(entry.own.call) + " as collective #" + std::to_string(entry.own.call.number) +
                   " after different calls before it, which were too far apart to be compared");
}

void CallTable::end(const Entry& entry) {
  record(own_, entry.own.ticket).ended.store(entry.own.ticket, std::memory_order_release);
}

bool CallTable::has_ended(size_t place, uint64_t ticket) const {
  return record(place, ticket).ended.load(std::memory_order_acquire) >= ticket;
}

int CallTable::late_rank(uint64_t ticket) const {
  for (size_t place = 0; place < local_ranks_.size(); place++) {
    if (place != own_ && state(place).ticket.load(std::memory_order_relaxed) < ticket) return local_ranks_[place];
  }
  return -1;
}

void CallTable::set_asleep(bool asleep) { state(own_).asleep.store(asleep ? 1 : 0, std::memory_order_seq_cst); }

bool CallTable::take_asleep(size_t place) const {
  auto& asleep = state(place).asleep;
  return asleep.load(std::memory_order_seq_cst) != 0 && asleep.exchange(0, std::memory_order_relaxed) != 0;
}

}  // namespace c10d::ucc_shim
