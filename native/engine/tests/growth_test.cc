// Structs of a host with another version: shorter ones, and longer ones.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "host.h"

using namespace c10d::test;

namespace {

/// A struct in memory of exactly this many bytes: a longer one ends in zeros, a shorter one is truncated.
template <class Struct>
class Sized {
 public:
  Sized(const Struct& from, size_t bytes) : memory_(new uint64_t[bytes / 8]()), bytes_(bytes) {
    std::memcpy(memory_.get(), &from, std::min(bytes, sizeof from));
    const auto size = static_cast<uint32_t>(bytes);
    std::memcpy(memory_.get(), &size, sizeof size);
  }
  Struct* get() const { return reinterpret_cast<Struct*>(memory_.get()); }
  uint8_t& byte(size_t at) const { return reinterpret_cast<uint8_t*>(memory_.get())[at]; }
  size_t bytes() const { return bytes_; }
  /// The struct as this version knows it.
  Struct read() const {
    Struct all{};
    std::memcpy(&all, memory_.get(), std::min(bytes_, sizeof all));
    return all;
  }

 private:
  const std::unique_ptr<uint64_t[]> memory_;
  const size_t bytes_;
};

constexpr size_t kLongest = 4096;

std::string too_old(const std::string& name) {
  return name + " has a field that this library is too old for: use a newer one";
}

c10d_config good_config() {
  c10d_config config{};
  config.world_size = 8;
  return config;
}

/// An op that may have any buffers, or none.
c10d_op any_op() { return op_record({0, kForever, C10D_OP_COALESCED}); }

/// Sizes of a newer host.
template <class Struct>
std::vector<size_t> longer() {
  return {sizeof(Struct) + 8, sizeof(Struct) + 24, kLongest};
}

}  // namespace

TEST_CASE("c10d_config of an older host: missing fields are 0") {
  // Without options, without a limit, without a device.
  for (size_t bytes = 16; bytes <= sizeof(c10d_config); bytes += 8) {
    CAPTURE(bytes);
    const Sized<c10d_config> config(good_config(), bytes);
    c10d_group* const group = c10d_create(config.get());
    REQUIRE(group != nullptr);
    CHECK(c10d_close(group, 20'000) == 0);
  }
  // Without a world size.
  const Sized<c10d_config> shortest(good_config(), 8);
  CHECK(c10d_create(shortest.get()) == nullptr);
  CHECK(last_error() == "rank must be in 0..world_size-1");
}

TEST_CASE("c10d_config of a newer host: accepted if all new fields are 0, else refused") {
  for (const size_t bytes : longer<c10d_config>()) {
    CAPTURE(bytes);
    const Sized<c10d_config> config(good_config(), bytes);
    c10d_group* const group = c10d_create(config.get());
    REQUIRE(group != nullptr);
    CHECK(c10d_close(group, 20'000) == 0);
    for (const size_t at : {sizeof(c10d_config), bytes - 1}) {
      config.byte(at) = 1;
      CHECK(c10d_create(config.get()) == nullptr);
      CHECK(last_failure().status == C10D_ERR_INVALID);
      CHECK(last_error() == too_old("c10d_config"));
      config.byte(at) = 0;
    }
  }
}

TEST_CASE("c10d_op of an older host: missing fields are 0") {
  Host host({"model=instant"});
  uint64_t output = 0;
  const c10d_buffer buffer{reinterpret_cast<uint64_t>(&output), sizeof output};
  auto whole = any_op();
  whole.outputs = reinterpret_cast<uint64_t>(&buffer);
  whole.output_count = 1;
  int64_t id = 0;
  for (size_t bytes = 8; bytes <= sizeof whole; bytes += 8) {
    CAPTURE(bytes);
    const Sized<c10d_op> op(whole, bytes);
    CHECK(c10d_submit(host.group(), op.get(), 1) == ++id);
    CHECK(host.wait(id) == C10D_OK);
    // It has a buffer only if it is long enough for the field.
    CHECK((output != 0) == (bytes > offsetof(c10d_op, output_count)));
    output = 0;
    CHECK(c10d_submit_one(host.group(), op.get(), nullptr, nullptr) == ++id);
    CHECK(host.wait(id) == C10D_OK);
  }
}

TEST_CASE("c10d_op of a newer host: accepted if all new fields are 0, else nothing is submitted") {
  for (const size_t bytes : longer<c10d_op>()) {
    CAPTURE(bytes);
    Host host({"model=instant"});
    const Sized<c10d_op> op(any_op(), bytes);
    CHECK(c10d_submit(host.group(), op.get(), 1) == 1);
    for (size_t at = sizeof(c10d_op); at<bytes; at += bytes> 1'000 ? 999 : 1) {
      op.byte(at) = 0x80;
      CHECK(c10d_submit(host.group(), op.get(), 1) == C10D_ERR_INVALID);
      CHECK(last_error() == too_old("c10d_op"));
      CHECK(c10d_submit_one(host.group(), op.get(), nullptr, nullptr) == C10D_ERR_INVALID);
      op.byte(at) = 0;
    }
    CHECK(host.stats().submitted == 1);
    CHECK(c10d_submit(host.group(), op.get(), 1) == 2);
    CHECK(host.wait(2) == C10D_OK);
  }
}

TEST_CASE("the stride of a batch is the size of its ops, shorter or longer") {
  constexpr uint32_t kOps = 3;
  for (const size_t stride : {size_t{24}, size_t{104}, sizeof(c10d_op), sizeof(c10d_op) + 8, size_t{1'024}}) {
    for (const char* batches : {"batches=0", "batches=1"}) {
      CAPTURE(stride);
      CAPTURE(std::string(batches));
      Host host({"model=polling", batches});
      const std::unique_ptr<uint64_t[]> memory(new uint64_t[kOps * stride / 8]());
      auto* const bytes = reinterpret_cast<uint8_t*>(memory.get());
      uint64_t outputs[kOps] = {};
      c10d_buffer buffers[kOps];
      for (uint32_t i = 0; i < kOps; i++) {
        buffers[i] = {reinterpret_cast<uint64_t>(&outputs[i]), sizeof outputs[i]};
        auto op = any_op();
        op.size = static_cast<uint32_t>(stride);
        op.outputs = reinterpret_cast<uint64_t>(&buffers[i]);
        op.output_count = 1;
        std::memcpy(bytes + i * stride, &op, std::min(stride, sizeof op));
      }
      const auto* const ops = reinterpret_cast<const c10d_op*>(bytes);
      CHECK(c10d_submit(host.group(), ops, kOps) == 1);
      for (uint32_t i = 0; i < kOps; i++) {
        CHECK(host.wait(i + 1) == C10D_OK);
        CHECK(outputs[i] == (stride > offsetof(c10d_op, output_count) ? result_of(i) : 0));
      }
      // One with a different size, wherever it is: all are refused.
      for (uint32_t i = 1; i < kOps; i++) {
        auto& size = *reinterpret_cast<uint32_t*>(bytes + i * stride);
        for (const size_t other : {stride - 8, stride + 8, size_t{0}}) {
          size = static_cast<uint32_t>(other);
          CHECK(c10d_submit(host.group(), ops, kOps) == C10D_ERR_INVALID);
          CHECK(last_error() == "the records of a batch differ in size");
        }
        size = static_cast<uint32_t>(stride);
      }
      if (stride > sizeof(c10d_op)) {
        bytes[kOps * stride - 1] = 1;
        CHECK(c10d_submit(host.group(), ops, kOps) == C10D_ERR_INVALID);
        CHECK(last_error() == too_old("c10d_op"));
      }
      CHECK(host.stats().submitted == kOps);
    }
  }
}

TEST_CASE("c10d_failure: as much as the host knows is written, and nothing beyond") {
  Host host({"model=blocking"});
  const auto fails = [&] {
    const auto id = host.submit(script(Outcome::unsupported));
    CHECK(host.wait(id) == C10D_ERR_UNSUPPORTED);
    return static_cast<uint64_t>(id);
  };
  char text[64] = {};
  int32_t ranks[4];
  c10d_failure whole{};
  whole.rank_capacity = 4;
  whole.ranks = reinterpret_cast<uint64_t>(ranks);
  whole.text_capacity = sizeof text;
  whole.text = reinterpret_cast<uint64_t>(text);
  for (size_t bytes = 8; bytes <= sizeof whole; bytes += 8) {
    CAPTURE(bytes);
    std::memset(text, 0, sizeof text);
    auto part = whole;
    // A host that does not know the tables does not know the capacities either: they were added together.
    if (bytes < sizeof whole) part.rank_capacity = part.text_capacity = 0;
    const Sized<c10d_failure> failure(part, bytes);
    CHECK(c10d_take_failure(host.group(), fails(), failure.get()) == C10D_ERR_UNSUPPORTED);
    CHECK(failure.read().size == bytes);
    CHECK(failure.read().status == C10D_ERR_UNSUPPORTED);
    CHECK(std::string(text) == (bytes < sizeof whole ? "" : "no such reduction"));
  }
  for (const size_t bytes : longer<c10d_failure>()) {
    CAPTURE(bytes);
    const Sized<c10d_failure> failure(whole, bytes);
    CHECK(c10d_take_failure(host.group(), fails(), failure.get()) == C10D_ERR_UNSUPPORTED);
    CHECK(failure.read().text_bytes == 17);
    for (size_t at = sizeof whole; at < bytes; at++) REQUIRE(failure.byte(at) == 0);
  }
}

TEST_CASE("a c10d_failure that is refused takes nothing: the failure is still there") {
  Host host({"model=blocking"});
  const auto id = static_cast<uint64_t>(host.submit(script(Outcome::unsupported)));
  CHECK(host.wait(static_cast<int64_t>(id)) == C10D_ERR_UNSUPPORTED);
  CHECK(c10d_take_failure(host.group(), id, nullptr) == C10D_ERR_INVALID);
  const Sized<c10d_failure> newer({}, sizeof(c10d_failure) + 8);
  newer.byte(sizeof(c10d_failure)) = 1;
  CHECK(c10d_take_failure(host.group(), id, newer.get()) == C10D_ERR_INVALID);
  CHECK(last_error() == too_old("c10d_failure"));
  c10d_failure failure{};
  for (const uint32_t size : {0U, 4U, 12U, 8192U}) {
    failure.size = size;
    CHECK(c10d_take_failure(host.group(), id, &failure) == C10D_ERR_INVALID);
  }
  failure.size = sizeof failure;
  failure.text_capacity = 8;
  CHECK(c10d_take_failure(host.group(), id, &failure) == C10D_ERR_INVALID);
  CHECK(last_error() == "c10d_failure has a table that is NULL");
  failure.text_capacity = 0;
  failure.rank_capacity = 8;
  CHECK(c10d_take_failure(host.group(), id, &failure) == C10D_ERR_INVALID);
  CHECK(take_failure(host.group(), id).text == "no such reduction");
  CHECK(take_failure(host.group(), id).status == C10D_OK);
}

TEST_CASE("c10d_event: drain and wait write as much as the host knows, and 0 beyond") {
  for (const uint32_t size : {16U, 24U, 32U, 40U, 48U, 56U, 128U, 4096U}) {
    CAPTURE(size);
    Host host({"model=instant"});
    constexpr uint32_t kOps = 3;
    for (uint32_t i = 0; i < kOps; i++) host.submit({});
    host.kick();
    CHECK(host.completion(kOps).status == C10D_OK);
    for (uint32_t i = 0; i < kOps; i++) host.submit({0, kForever, C10D_OP_ALLREDUCE, C10D_FLAG_TIMES});
    c10d_kick(host.group());
    while (host.stats().completed < 2 * kOps) {
    }
    const size_t words = size / 8;
    std::vector<uint64_t> events(kOps * words + 1, UINT64_MAX);
    CHECK(c10d_drain(host.group(), reinterpret_cast<c10d_event*>(events.data()), size, kOps) == kOps);
    for (uint32_t i = 0; i < kOps; i++) {
      c10d_event event{};
      std::memcpy(&event, &events[i * words], std::min<size_t>(size, sizeof event));
      CHECK(event.kind == C10D_EVENT_COMPLETE);
      CHECK(event.id == kOps + 1 + i);
      CHECK((event.finished_ns > 0) == (size > offsetof(c10d_event, finished_ns)));
      for (size_t word = sizeof event / 8; word < words; word++) REQUIRE(events[i * words + word] == 0);
    }
    CHECK(events.back() == UINT64_MAX);
    const auto id = host.submit({});
    std::vector<uint64_t> result(words + 1, UINT64_MAX);
    CHECK(c10d_wait(host.group(), static_cast<uint64_t>(id), kForever, reinterpret_cast<c10d_event*>(result.data()),
                    size) == C10D_OK);
    CHECK(reinterpret_cast<const c10d_event*>(result.data())->id == static_cast<uint64_t>(id));
    CHECK(result.back() == UINT64_MAX);
  }
}

TEST_CASE("an impossible event size is refused, and no event is lost") {
  Host host({"model=instant"});
  host.submit({});
  host.submit({});
  host.kick();
  while (host.stats().completed < 2) {
  }
  std::vector<uint64_t> events(2'000);
  auto* const to = reinterpret_cast<c10d_event*>(events.data());
  for (const uint32_t size : {0U, 8U, 12U, 20U, 50U, 4104U, 0xfffffff8U}) {
    CAPTURE(size);
    CHECK(c10d_drain(host.group(), to, size, 1) == C10D_ERR_INVALID);
    CHECK(last_error() == "a c10d_event cannot have a size of " + std::to_string(size));
    CHECK(c10d_wait(host.group(), 1, 0, to, size) == C10D_ERR_INVALID);
  }
  CHECK(host.wait(1) == C10D_OK);
  CHECK(host.completion(2).status == C10D_OK);
}

TEST_CASE("c10d_stats and c10d_capabilities: as much as the host knows, and 0 beyond") {
  Host host({"model=instant", "concurrency=5"});
  host.submit({});
  CHECK(host.wait(1) == C10D_OK);
  for (size_t bytes = 0; bytes <= 128; bytes += 8) {
    CAPTURE(bytes);
    std::vector<uint64_t> memory(bytes / 8 + 1, UINT64_MAX);
    c10d_group_stats(host.group(), reinterpret_cast<c10d_stats*>(memory.data()), static_cast<uint32_t>(bytes));
    if (bytes >= 8) CHECK(memory[0] == 1);
    for (size_t i = sizeof(c10d_stats) / 8; i < bytes / 8; i++) CHECK(memory[i] == 0);
    CHECK(memory.back() == UINT64_MAX);
    std::fill(memory.begin(), memory.end(), UINT64_MAX);
    c10d_group_capabilities(host.group(), reinterpret_cast<c10d_capabilities*>(memory.data()),
                            static_cast<uint32_t>(bytes));
    const auto* const all = reinterpret_cast<const c10d_capabilities*>(memory.data());
    if (bytes >= sizeof *all) CHECK(all->concurrency == 5);
    for (size_t i = sizeof *all / 8; i < bytes / 8; i++) CHECK(memory[i] == 0);
    CHECK(memory.back() == UINT64_MAX);
  }
}
