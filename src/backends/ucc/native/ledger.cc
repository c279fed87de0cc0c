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
constexpr size_t kWords = sizeof(Ledger::Call) / sizeof(uint64_t);

/// Words that another process reads while they are written.
using Word = std::atomic<uint64_t>;
static_assert(Word::is_always_lock_free && sizeof(Word) == sizeof(uint64_t));

size_t lines(size_t bytes) { return (bytes + kLine - 1) / kLine * kLine; }

/// A record, and after it what goes to and comes from each rank.
size_t stride(size_t world_size) { return lines(kLine + (1 + 2 * world_size) * sizeof(uint64_t)); }

uint64_t mixed(uint64_t seed, uint64_t value) {
  uint64_t x = (seed ^ value) + 0x9e3779b97f4a7c15ULL;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

bool rooted(uint32_t opcode) {
  return opcode == C10D_OP_BROADCAST || opcode == C10D_OP_REDUCE || opcode == C10D_OP_GATHER ||
         opcode == C10D_OP_SCATTER;
}

/// The buffers whose sizes are the same on all ranks.
const std::vector<c10d_buffer>& agreed_buffers(const Op& op) {
  switch (op.request.opcode) {
    case C10D_OP_ALLREDUCE:
    case C10D_OP_ALLREDUCE_COALESCED:
    case C10D_OP_BROADCAST:
    case C10D_OP_REDUCE:
    case C10D_OP_SCATTER:
      return op.outputs;
    default:
      return op.inputs;
  }
}

Ledger::Call call_of(const Op& op, bool split) {
  Ledger::Call call;
  call.opcode = op.request.opcode;
  if (call.opcode == C10D_OP_BARRIER) return call;
  call.dtype = op.request.dtype;
  if (reduces(call.opcode)) call.reduce_op = op.request.reduce_op;
  if (rooted(call.opcode)) call.root = op.request.peer;
  call.split = split ? 1 : 0;
  if (split) return call;
  const auto& buffers = agreed_buffers(op);
  call.buffers = buffers.size();
  for (const auto& buffer : buffers) {
    call.bytes += buffer.bytes;
    call.sizes = mixed(call.sizes, buffer.bytes);
  }
  return call;
}

const char* opcode_text(uint32_t opcode) {
  switch (opcode) {
    case C10D_OP_BROADCAST:
      return "broadcast";
    case C10D_OP_ALLREDUCE:
      return "allReduce";
    case C10D_OP_ALLREDUCE_COALESCED:
      return "allReduceCoalesced";
    case C10D_OP_REDUCE:
      return "reduce";
    case C10D_OP_ALLGATHER:
      return "allGather";
    case C10D_OP_ALLGATHER_BASE:
      return "allGatherIntoTensor";
    case C10D_OP_ALLGATHER_COALESCED:
      return "allGatherIntoTensorCoalesced";
    case C10D_OP_GATHER:
      return "gather";
    case C10D_OP_SCATTER:
      return "scatter";
    case C10D_OP_REDUCE_SCATTER:
      return "reduceScatter";
    case C10D_OP_REDUCE_SCATTER_BASE:
      return "reduceScatterTensor";
    case C10D_OP_REDUCE_SCATTER_TENSOR_COALESCED:
      return "reduceScatterTensorCoalesced";
    case C10D_OP_ALLTOALL:
      return "allToAll";
    case C10D_OP_ALLTOALL_BASE:
      return "allToAllSingle";
    default:
      return "barrier";
  }
}

const char* reduction_text(uint32_t reduce_op) {
  constexpr const char* names[] = {"SUM", "AVG", "PRODUCT", "MIN", "MAX", "BAND", "BOR", "BXOR", "PREMUL_SUM"};
  return reduce_op < std::size(names) ? names[reduce_op] : "?";
}

}  // namespace

std::string dtype_text(uint32_t dtype) {
  switch (dtype) {
    case C10D_UINT8:
      return "uint8";
    case C10D_INT8:
      return "int8";
    case C10D_INT16:
      return "int16";
    case C10D_INT32:
      return "int32";
    case C10D_INT64:
      return "int64";
    case C10D_FLOAT16:
      return "float16";
    case C10D_FLOAT32:
      return "float32";
    case C10D_FLOAT64:
      return "float64";
    case C10D_COMPLEX64:
      return "complex64";
    case C10D_COMPLEX128:
      return "complex128";
    case C10D_BOOL:
      return "bool";
    case C10D_BFLOAT16:
      return "bfloat16";
    case C10D_UINT16:
      return "uint16";
    case C10D_UINT32:
      return "uint32";
    case C10D_UINT64:
      return "uint64";
    default:
      return "dtype " + std::to_string(dtype);
  }
}

std::string text_of(const Ledger::Call& call) {
  std::string text = opcode_text(call.opcode);
  if (call.opcode == C10D_OP_BARRIER) return text;
  if (reduces(call.opcode)) text += std::string("(") + reduction_text(call.reduce_op) + ")";
  if (rooted(call.opcode)) text += " with root " + std::to_string(call.root);
  text += " of " + dtype_text(call.dtype);
  if (call.split != 0) return text + " in parts of given sizes";
  text += ", " + std::to_string(call.bytes) + " bytes";
  if (call.buffers > 1) text += " in " + std::to_string(call.buffers) + " tensors";
  return text;
}

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
  if (memory == MAP_FAILED) throw Failure(C10D_ERR_BACKEND, std::string("mmap: ") + std::strerror(reason));
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

/// What an all-to-all in unequal parts sends to each rank and then what it expects of each; returns whether it is one.
uint64_t Ledger::parts_of(const Op& op, Entry& entry) const {
  entry.parts.clear();
  const size_t element_bytes = element_size(op.request.dtype);
  if (op.request.opcode == C10D_OP_ALLTOALL) {
    for (const auto& buffer : op.inputs) entry.parts.push_back(buffer.bytes);
    for (const auto& buffer : op.outputs) entry.parts.push_back(buffer.bytes);
  } else if (op.request.opcode == C10D_OP_ALLTOALL_BASE) {
    for (const uint64_t split : op.input_splits) entry.parts.push_back(split * element_bytes);
    for (const uint64_t split : op.output_splits) entry.parts.push_back(split * element_bytes);
  }
  return entry.parts.empty() ? 0 : 1;
}

void Ledger::enter(const Op& op, Entry& entry) {
  Call& call = entry.call;
  call = call_of(op, parts_of(op, entry) != 0);
  call.ticket = op.ticket;
  for (const uint64_t each :
       {uint64_t{call.opcode} << 32 | call.dtype, uint64_t{call.reduce_op} << 32 | static_cast<uint32_t>(call.root),
        call.bytes, call.buffers, call.sizes, call.split}) {
    chain_ = mixed(chain_, each);
  }
  call.chain = chain_;
  Record& own = record(own_, call.ticket);
  uint64_t words[kWords];
  std::memcpy(words, &call, sizeof call);
  own.words[0].store(0, std::memory_order_relaxed);
  for (size_t i = 1; i < kWords; i++) own.words[i].store(words[i], std::memory_order_release);
  for (size_t i = 0; i < entry.parts.size(); i++) own.parts[i].store(entry.parts[i], std::memory_order_release);
  presence(own_).ticket.store(call.ticket, std::memory_order_relaxed);
  // In one order for all ranks: of two that come at the same time, at least one sees the other.
  own.words[0].store(call.ticket, std::memory_order_seq_cst);
  entry.missing.clear();
  for (uint32_t place = 0; place < here_.size(); place++) {
    if (place != own_) entry.missing.push_back(place);
  }
}

bool Ledger::compare(Entry& entry) const {
  size_t kept = 0;
  const size_t before = entry.missing.size();
  for (const uint32_t place : entry.missing) {
    const Record& theirs = record(place, entry.call.ticket);
    const uint64_t ticket = theirs.words[0].load(std::memory_order_seq_cst);
    if (ticket < entry.call.ticket) {
      // It may also be past this one and in the middle of writing a later one.
      if (presence(place).ticket.load(std::memory_order_relaxed) < entry.call.ticket + kSlots)
        entry.missing[kept++] = place;
      continue;
    }
    // So far ahead that its record is gone.
    if (ticket > entry.call.ticket) continue;
    const uint64_t chain = theirs.words[1].load(std::memory_order_acquire);
    if (chain == entry.call.chain && entry.parts.empty()) continue;
    uint64_t words[kWords];
    for (size_t i = 0; i < kWords; i++) words[i] = theirs.words[i].load(std::memory_order_acquire);
    std::vector<uint64_t> parts(entry.parts.size());
    for (size_t i = 0; i < parts.size(); i++) parts[i] = theirs.parts[i].load(std::memory_order_acquire);
    if (theirs.words[0].load(std::memory_order_relaxed) != ticket) continue;
    Call call;
    words[0] = ticket;
    std::memcpy(&call, words, sizeof call);
    if (call.chain != entry.call.chain) disagree(entry, here_[place], call);
    compare_parts(entry, here_[place], parts);
  }
  entry.missing.resize(kept);
  return kept < before;
}

void Ledger::disagree(const Entry& entry, int rank, const Call& theirs) const {
  const std::string own = text_of(entry.call);
  const std::string other = text_of(theirs);
  const std::string who = "rank " + std::to_string(rank);
  std::string text = "the ranks are out of step: as collective #" + std::to_string(entry.call.ticket) + ", rank " +
                     std::to_string(rank_) + " called " + own + " but " + who + " called ";
  if (own != other) {
    text += other;
  } else if (entry.call.sizes != theirs.sizes) {
    text += "it with tensors of other sizes";
  } else {
    text += "the same after another one before it had differed";
  }
  throw Failure(C10D_ERR_BACKEND,
                text + ". All ranks must call the same collectives in the same order, with the same dtypes and sizes",
                rank);
}

/// What one sends the other has to expect.
void Ledger::compare_parts(const Entry& entry, int rank, const std::vector<uint64_t>& theirs) const {
  if (entry.parts.empty()) return;
  const auto self = static_cast<size_t>(rank_);
  const auto other = static_cast<size_t>(rank);
  const auto check = [&](int from, int to, uint64_t sent, uint64_t expected) {
    if (sent == expected) return;
    throw Failure(C10D_ERR_BACKEND,
                  "the sizes of the parts differ: in collective #" + std::to_string(entry.call.ticket) + ", rank " +
                      std::to_string(from) + " sends " + std::to_string(sent) + " bytes where rank " +
                      std::to_string(to) + " expects " + std::to_string(expected),
                  rank);
  };
  check(rank_, rank, entry.parts[other], theirs[world_size_ + self]);
  check(rank, rank_, theirs[self], entry.parts[world_size_ + other]);
}

void Ledger::leave(const Entry& entry) {
  record(own_, entry.call.ticket).left.store(entry.call.ticket, std::memory_order_release);
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
