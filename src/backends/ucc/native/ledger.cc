#include "ledger.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "op_check.h"
#include "reduction/reduction.h"

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

uint64_t mixed(uint64_t seed, uint64_t value) {
  uint64_t x = (seed ^ value) + 0x9e3779b97f4a7c15ULL;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

uint64_t hash_of(uint64_t seed, const c10d::Call& call) {
  uint64_t factor = 0;
  std::memcpy(&factor, &call.premul_factor, sizeof factor);
  for (const uint64_t each :
       {uint64_t{call.opcode} << 32 | call.dtype, uint64_t{call.reduce_op} << 32 | static_cast<uint32_t>(call.root),
        uint64_t{call.flags} << 32 | call.tensors, call.number, call.elements, call.sizes, factor}) {
    seed = mixed(seed, each);
  }
  return seed;
}

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
  const auto list = [&](const std::vector<c10d_buffer>& buffers, const std::vector<uint64_t>& splits) {
    if (op.request.opcode == C10D_OP_ALLTOALL) {
      for (const auto& buffer : buffers) entry.parts.push_back(buffer.bytes);
    } else if (splits.empty()) {
      entry.parts.insert(entry.parts.end(), world_size_, buffers[0].bytes / world_size_);
    } else {
      for (const uint64_t split : splits) entry.parts.push_back(split * element_size(op.request.dtype));
    }
  };
  if (op.request.opcode != C10D_OP_ALLTOALL && op.request.opcode != C10D_OP_ALLTOALL_BASE) return;
  list(op.inputs, op.input_splits);
  list(op.outputs, op.output_splits);
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
    if (entered.chain != entry.own.chain) disagree(entry, here_[place], entered.call);
    compare_parts(entry, here_[place], parts);
  }
  entry.missing.resize(kept);
  return kept < before;
}

void Ledger::disagree(const Entry& entry, int rank, const c10d::Call& theirs) const {
  const c10d::Call& own = entry.own.call;
  if (!agree(own, theirs)) throw Failure(C10D_ERR_DESYNC, mismatch_text(rank_, own, rank, theirs), rank);
  throw Failure(C10D_ERR_DESYNC,
                "rank " + std::to_string(rank_) + " and rank " + std::to_string(rank) + " called " + text_of(own) +
                    " as collective #" + std::to_string(own.number) +
                    " after different calls before it, which were too far apart to be compared",
                rank);
}

/// What one sends the other has to expect.
void Ledger::compare_parts(const Entry& entry, int rank, const std::vector<uint64_t>& theirs) const {
  if (entry.parts.empty()) return;
  const auto self = static_cast<size_t>(rank_);
  const auto other = static_cast<size_t>(rank);
  const auto check = [&](int from, int to, uint64_t sent, uint64_t expected) {
    if (sent == expected) return;
    throw Failure(C10D_ERR_DESYNC, split_mismatch_text(entry.own.call, from, sent, to, expected), rank);
  };
  check(rank_, rank, entry.parts[other], theirs[world_size_ + self]);
  check(rank, rank_, theirs[self], entry.parts[world_size_ + other]);
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
