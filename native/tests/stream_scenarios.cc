#include "stream_scenarios.h"

#include <chrono>
#include <memory>
#include <random>
#include <thread>

#include "device_ranks.h"
#include "random_record.h"

namespace c10d::test {

namespace {

using Settings = std::vector<std::string>;

constexpr size_t kFloats = 64;
/// Long enough for a device that does not wait to do its work too early.
constexpr auto kAWhile = std::chrono::milliseconds(15);
constexpr double kSoonMs = 300;

void a_while() { std::this_thread::sleep_for(kAWhile); }

/// Two ranks with an in-place all-reduce; only rank 0 puts work into its stream.
struct Pair {
  DeviceRanks ranks;
  DeviceBuffer x0{1, kFloats};
  DeviceBuffer x1{2, kFloats};
  DeviceStream stream{1};

  explicit Pair(const Settings& settings) : ranks(2, settings) { x1.write(0, 2); }
  int64_t run0() { return ranks.run(0, DeviceOp(C10D_OP_ALLREDUCE, stream).out(x0)); }
  int64_t run1() { return ranks.run(1, DeviceOp(C10D_OP_ALLREDUCE, 0).out(x1)); }
};

std::string sees_what_is_in_its_stream(const Settings& settings) {
  Pair pair(settings);
  Hold hold(1, pair.stream);
  pair.x0.write(pair.stream, 1);
  const auto id0 = pair.run0();
  const auto id1 = pair.run1();
  a_while();
  if (pair.ranks.wait(0, id0, 0) != C10D_ERR_WAIT_TIMEOUT) return "the op did not wait for its stream";
  if (pair.ranks.wait(1, id1, 0) != C10D_ERR_WAIT_TIMEOUT) return "rank 1 did not wait for rank 0";
  hold.release();
  if (pair.ranks.wait(0, id0) != C10D_OK || pair.ranks.wait(1, id1) != C10D_OK) return "the op has failed";
  if (!pair.x0.holds(pair.stream, 3) || !pair.x1.holds(0, 3)) return "the op did not see what was in its stream";
  return "";
}

std::string sees_nothing_that_came_later(const Settings& settings) {
  Pair pair(settings);
  pair.x0.write(pair.stream, 1);
  const auto id0 = pair.ranks.submit(0, DeviceOp(C10D_OP_ALLREDUCE, pair.stream).out(pair.x0));
  Hold hold(1, pair.stream);
  c10d_kick(pair.ranks.group(0));
  const auto id1 = pair.run1();
  if (pair.ranks.wait(0, id0, kSoonMs) != C10D_OK) return "the op waits for what came into its stream after the submit";
  if (pair.ranks.wait(1, id1) != C10D_OK) return "the op has failed";
  hold.release();
  return pair.x0.holds(0, 3) ? "" : "wrong result";
}

std::string waits_for_the_end(const Settings& settings) {
  Pair pair(settings);
  pair.x0.write(pair.stream, 1);
  const auto id0 = pair.run0();
  if (pair.ranks.wait(0, id0, kAWhile.count()) != C10D_ERR_WAIT_TIMEOUT) return "the op has ended without rank 1";
  const auto id1 = pair.run1();
  if (pair.ranks.wait(0, id0) != C10D_OK || pair.ranks.wait(1, id1) != C10D_OK) return "the op has failed";
  // In a stream that waits for nothing: the op has ended for the host, so the result is there.
  const DeviceStream other(1);
  return pair.x0.holds(other, 3) ? "" : "the result is not there when the op has ended";
}

std::string a_stream_waits_for_the_result(const Settings& settings) {
  DeviceRanks ranks(2, settings);
  const DeviceBuffer x0(1, kFloats), x1(2, kFloats), y0(1, 2 * kFloats), y1(2, 2 * kFloats);
  const DeviceBuffer seen(1, 2 * kFloats), seen_without(1, 2 * kFloats);
  const DeviceStream made(1), consumer(1), hasty(1);
  x0.write(made, 1);
  x1.write(0, 1);
  const auto id0 = ranks.run(0, DeviceOp(C10D_OP_ALLGATHER_BASE, made).in(x0).out(y0));
  if (ranks.synchronize(0, id0, consumer) != C10D_OK) return "synchronize has failed";
  for (const auto& [stream, to] : {std::pair{&consumer, &seen}, std::pair{&hasty, &seen_without}}) {
    test_device::copy(1, *stream, to->address(), y0.address(), y0.bytes());
  }
  const uint64_t copied = test_device::record(1, consumer);
  a_while();
  const bool early = test_device::is_complete(copied);
  test_device::close_event(copied);
  if (!seen_without.is_poison(hasty)) return "the result is there before the op has ended: the test proves nothing";
  const auto id1 = ranks.run(1, DeviceOp(C10D_OP_ALLGATHER_BASE, 0).in(x1).out(y1));
  if (!seen.holds(consumer, 1)) return "the stream did not see the result";
  if (early) return "the stream did not wait for the op";
  if (ranks.wait(0, id0) != C10D_OK || ranks.wait(1, id1) != C10D_OK) return "the op has failed";
  return "";
}

std::string ops_of_a_group_are_in_order(const Settings& settings) {
  constexpr int kOps = 10;
  Pair pair(settings);
  pair.x0.write(0, 1);
  pair.x1.write(0, 1);
  test_device::synchronize(1, 0);
  test_device::synchronize(2, 0);
  std::vector<int64_t> ids;
  for (int i = 0; i < kOps; i++) {
    ids.push_back(pair.ranks.submit(0, DeviceOp(C10D_OP_ALLREDUCE).out(pair.x0)));
    pair.ranks.submit(1, DeviceOp(C10D_OP_ALLREDUCE).out(pair.x1));
  }
  for (int rank = 0; rank < 2; rank++) c10d_kick(pair.ranks.group(rank));
  for (const auto id : ids) {
    if (pair.ranks.wait(0, id) != C10D_OK || pair.ranks.wait(1, id) != C10D_OK) return "an op has failed";
  }
  return pair.x0.holds(0, 1 << kOps) && pair.x1.holds(0, 1 << kOps) ? "" : "an op did not wait for the one before it";
}

/// Many rounds over few buffers and streams, in which each wait is needed.
std::string many_rounds(const Settings& settings) {
  constexpr int kRounds = 40;
  std::mt19937_64 random(fuzz_seed());
  DeviceRanks ranks(2, settings);
  struct Own {
    DeviceBuffer x, y, seen;
    std::vector<std::unique_ptr<DeviceStream>> streams;
    int64_t last = 0;
  };
  std::vector<std::unique_ptr<Own>> all;
  for (int32_t rank = 0; rank < 2; rank++) {
    const int32_t device = ranks.device(rank);
    all.emplace_back(new Own{{device, kFloats}, {device, 2 * kFloats}, {device, 2 * kFloats * kRounds}, {}});
    for (int i = 0; i < 3; i++) all.back()->streams.push_back(std::make_unique<DeviceStream>(device));
  }
  for (int round = 0; round < kRounds; round++) {
    for (int32_t rank = 0; rank < 2; rank++) {
      Own& own = *all[static_cast<size_t>(rank)];
      const DeviceStream& from = *own.streams[random() % 3];
      const DeviceStream& to = *own.streams[random() % 3];
      // Both buffers are reused, so this stream waits for the last op and its consumer.
      if (own.last > 0) ranks.synchronize(rank, own.last, from);
      for (const auto& stream : own.streams) {
        const uint64_t consumed = test_device::record(ranks.device(rank), *stream);
        test_device::await(ranks.device(rank), from, consumed);
        test_device::close_event(consumed);
      }
      own.x.write(from, static_cast<float>(round + 1));
      own.last = ranks.run(rank, DeviceOp(C10D_OP_ALLGATHER_BASE, from).in(own.x).out(own.y));
      if (own.last < 0 || ranks.synchronize(rank, own.last, to) != C10D_OK) return "an op has failed";
      test_device::copy(ranks.device(rank), to, own.seen.address() + static_cast<uint64_t>(round) * own.y.bytes(),
                        own.y.address(), own.y.bytes());
    }
  }
  for (int32_t rank = 0; rank < 2; rank++) {
    Own& own = *all[static_cast<size_t>(rank)];
    for (const auto& stream : own.streams) test_device::synchronize(ranks.device(rank), *stream);
    const auto seen = own.seen.read(*own.streams[0]);
    for (size_t i = 0; i < seen.size(); i++) {
      if (seen[i] != static_cast<float>(i / (2 * kFloats) + 1)) {
        return "round " + std::to_string(i / (2 * kFloats)) + " has seen " + std::to_string(seen[i]);
      }
    }
  }
  return "";
}

}  // namespace

const std::vector<StreamScenario>& stream_scenarios() {
  static const std::vector<StreamScenario> all = {
      {"an op sees what was put into its stream before", sees_what_is_in_its_stream},
      {"an op does not wait for what is put into its stream later", sees_nothing_that_came_later},
      {"an op ends for the host when it has ended on the device", waits_for_the_end},
      {"a stream that synchronizes sees the result", a_stream_waits_for_the_result},
      {"ops of a group are in order", ops_of_a_group_are_in_order},
      {"many rounds over few buffers and streams", many_rounds},
  };
  return all;
}

}  // namespace c10d::test
