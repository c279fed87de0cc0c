#include "arena.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

namespace cuemu {

namespace {

constexpr size_t page = 4096;

constexpr size_t pages(size_t bytes) { return (bytes + page - 1) / page * page; }

/// With a page that is never used, between an allocation and the next.
constexpr size_t with_gap(size_t bytes) { return pages(bytes) + page; }

[[noreturn]] void fail(const char* what) { throw std::system_error(errno, std::generic_category(), what); }

uint8_t* map(int file, size_t bytes, int access) {
  void* const address = ::mmap(nullptr, bytes, access, MAP_SHARED | MAP_NORESERVE, file, 0);
  if (address == MAP_FAILED) fail("mmap of device memory");
  ::madvise(address, bytes, MADV_DONTFORK);
  ::madvise(address, bytes, MADV_DONTDUMP);
  return static_cast<uint8_t*>(address);
}

}  // namespace

Arena::Arena(size_t capacity) : capacity_(capacity), span_(std::max<size_t>(8 * capacity, 1 << 30)) {
  file_ = ::memfd_create("nccl-emulator-device", MFD_CLOEXEC);
  if (file_ < 0) fail("memfd_create");
  if (::ftruncate(file_, static_cast<off_t>(span_)) != 0) fail("ftruncate of device memory");
  base_ = reinterpret_cast<uint64_t>(map(file_, span_, PROT_NONE));
  hidden_ = map(file_, span_, PROT_READ | PROT_WRITE);
}

std::optional<uint64_t> Arena::take(size_t bytes) {
  if (bytes > capacity_ || pages(bytes) > available()) return std::nullopt;
  auto offset = find(cursor_, span_, with_gap(bytes));
  if (!offset) offset = find(0, cursor_, with_gap(bytes));
  if (!offset) return std::nullopt;
  taken_[*offset] = with_gap(bytes);
  cursor_ = *offset + with_gap(bytes);
  used_ += pages(bytes);
  return base_ + *offset;
}

std::optional<uint64_t> Arena::find(uint64_t from, uint64_t to, size_t length) const {
  uint64_t offset = from;
  auto next = taken_.lower_bound(from);
  if (next != taken_.begin()) {
    const auto before = std::prev(next);
    offset = std::max(offset, before->first + before->second);
  }
  while (offset + length <= to) {
    if (next == taken_.end() || offset + length <= next->first) return offset;
    offset = next->first + next->second;
    ++next;
  }
  return std::nullopt;
}

void Arena::give_back(uint64_t address, size_t bytes) {
  ::fallocate(file_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(address - base_),
              static_cast<off_t>(pages(bytes)));
  taken_.erase(address - base_);
  used_ -= pages(bytes);
}

void Arena::abandon(size_t bytes) { used_ -= pages(bytes); }

}  // namespace cuemu
