#include "comparison/call_table.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "engine/op_parts.h"
#include "engine/signature.h"

namespace c10d::ucc_shim {

namespace {

/// How many collectives a rank may be ahead of another one and still be compared with it.
constexpr uint64_t kSlots = 128;
constexpr size_t kLine = 64;
constexpr size_t kWords = sizeof(Ledger::Entered) / sizeof(uint64_t);

/// Words that another process reads while they are written.
using Word = std::atomic<uint64_t>;
static_assert(Word::is_always_lock_free && sizeof(Word) == sizeof(uint64_t));

size_t lines(size_t bytes) { return (bytes + kLine - 1) / kLine * kLine; }

/// A record, and after it what goes to and comes from each rank.
size_t stride(size_t world_size) { return lines((kWords + 1 + 2 * world_size) * sizeof(uint64_t)); }

}  // namespace

struct alignas(kLine) Ledger::Presence {
  std::atomic<uint32_t> asleep;
  /// The last collective that the rank has come to.
  Word ticket;
};

/// The ticket is 0 while the rest is written.
struct alignas(kLine) Ledger::Record {
  Word words[kWords];
  /// The ticket, when the collective has ended for the rank.
  Word left;
  Word parts[];
};

size_t Ledger::bytes(size_t ranks, int world_size) {
  return ranks * (sizeof(Presence) + kSlots * stride(static_cast<size_t>(world_size)));
}

Ledger::Ledger(int fd, std::vector<int> here, const Config& config)
    : here_(std::move(here)), rank_(config.rank), world_size_(static_cast<size_t>(config.world_size)) {
  const size_t size = bytes(here_.size(), config.world_size);
  void* const memory = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  const int reason = errno;
  ::close(fd);
  if (memory == MAP_FAILED) throw Failure::of_system("mmap", reason);
  memory_ = memory;
  own_ = *place_of(rank_);
}

Ledger::~Ledger() { ::munmap(memory_, bytes(here_.size(), static_cast<int>(world_size_))); }

Ledger::Presence& Ledger::presence(size_t place) const { return static_cast<Presence*>(memory_)[place]; }

Ledger::Record& Ledger::record(size_t place, uint64_t ticket) const {
  char* const records = static_cast<char*>(memory_) + here_.size() * sizeof(Presence);
  return *reinterpret_cast<Record*>(records + (place * kSlots + ticket % kSlots) * stride(world_size_));
}

std::optional<size_t> Ledger::place_of(int rank) const {
  const auto found = std::lower_bound(here_.begin(), here_.end(), rank);
  if (found == here_.end() || *found != rank) return std::nullopt;
  return static_cast<size_t>(found - here_.begin());
}

void Ledger::list_parts(const Op& op, Entry& entry) const {
  entry.parts.clear();
  if (!is_all_to_all(op)) return;
  const auto size = static_cast<int>(world_size_);
  for (int rank = 0; rank < size; rank++) entry.parts.push_back(part_to(op, rank, size).bytes);
  for (int rank = 0; rank < size; rank++) entry.parts.push_back(part_from(op, rank, size).bytes);
}

void Ledger::enter(const Op& op, Entry& entry) {
  list_parts(op, entry);
  Entered& entered = entry.own;
  entered = {op.ticket, 0, call_of(op)};
  entered.chain = chain_ = hash_of(chain_, entered.call);
  Record& own = record(own_, entered.ticket);
  uint64_t words[kWords];
  std::memcpy(words, &entered, sizeof entered);
  own.words[0].store(0, std::memory_order_relaxed);
  for (size_t i = 1; i < kWords; i++) own.words[i].store(words[i], std::memory_order_release);
  for (size_t i = 0; i < entry.parts.size(); i++) own.parts[i].store(entry.parts[i], std::memory_order_release);
  presence(own_).ticket.store(entered.ticket, std::memory_order_relaxed);
  // In one order for all ranks: of two that come at the same time, at least one sees the other.
  own.words[0].store(entered.ticket, std::memory_order_seq_cst);
  entry.missing.clear();
  for (uint32_t place = 0; place < here_.size(); place++) {
    if (place != own_) entry.missing.push_back(place);
  }
}

bool Ledger::compare(Entry& entry) const {
  size_t kept = 0;
  const size_t before = entry.missing.size();
  for (const uint32_t place : entry.missing) {
    const Record& theirs = record(place, entry.own.ticket);
    const uint64_t ticket = theirs.words[0].load(std::memory_order_seq_cst);
    if (ticket < entry.own.ticket) {
      // It may also be past this one and in the middle of writing a later one.
      if (presence(place).ticket.load(std::memory_order_relaxed) < entry.own.ticket + kSlots)
        entry.missing[kept++] = place;
      continue;
    }
    // So far ahead that its record is gone.
    if (ticket > entry.own.ticket) continue;
    const uint64_t chain = theirs.words[1].load(std::memory_order_acquire);
    if (chain == entry.own.chain && entry.parts.empty()) continue;
    uint64_t words[kWords];
    for (size_t i = 0; i < kWords; i++) words[i] = theirs.words[i].load(std::memory_order_acquire);
    std::vector<uint64_t> parts(entry.parts.size());
    for (size_t i = 0; i < parts.size(); i++) parts[i] = theirs.parts[i].load(std::memory_order_acquire);
    if (theirs.words[0].load(std::memory_order_relaxed) != ticket) continue;
    Entered entered;
    words[0] = ticket;
    std::memcpy(&entered, words, sizeof entered);
    require_fit(entry, here_[place], entered, parts);
  }
  entry.missing.resize(kept);
  return kept < before;
}

/// Throws Failure unless they fit together.
void Ledger::require_fit(const Entry& entry, int rank, const Entered& theirs,
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

void Ledger::leave(const Entry& entry) {
  record(own_, entry.own.ticket).left.store(entry.own.ticket, std::memory_order_release);
}

bool Ledger::has_left(size_t place, uint64_t ticket) const {
  return record(place, ticket).left.load(std::memory_order_acquire) >= ticket;
}

int Ledger::latecomer(uint64_t ticket) const {
  for (size_t place = 0; place < here_.size(); place++) {
    if (place != own_ && presence(place).ticket.load(std::memory_order_relaxed) < ticket) return here_[place];
  }
  return -1;
}

void Ledger::set_asleep(bool asleep) { presence(own_).asleep.store(asleep ? 1 : 0, std::memory_order_seq_cst); }

bool Ledger::take_asleep(size_t place) const {
  auto& asleep = presence(place).asleep;
  return asleep.load(std::memory_order_seq_cst) != 0 && asleep.exchange(0, std::memory_order_relaxed) != 0;
}

}  // namespace c10d::ucc_shim
