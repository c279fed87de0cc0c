// A message of another size than its receive: both ranks say which sizes, also while they block, and a third one knows
// it too.
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "context/message_sizes.h"
#include "failure_view.h"
#include "thread_rank.h"

using namespace c10d::test;

namespace {

constexpr uint32_t kTag = 5;
/// More than the kernel buffers on a connection.
constexpr size_t kMuch = size_t{4} << 20;
/// What takes a while to send.
constexpr size_t kVeryMuch = 8 * kMuch;

using Failures = std::vector<FailureView>;

std::string text_of(size_t sent, size_t expected) {
  return "rank 1 sent " + std::to_string(4 * sent) + " bytes, rank 0 was to receive " + std::to_string(4 * expected) +
         " (do shapes and dtypes agree?)";
}

void check_sizes(const FailureView& failure, size_t sent, size_t expected) {
  CHECK(failure.status == C10D_ERR_DESYNC);
  CHECK(failure.text == text_of(sent, expected));
  auto ranks = failure.ranks;
  std::sort(ranks.begin(), ranks.end());
  CHECK(ranks == std::vector<int32_t>{0, 1});
}

FailureView recv(ThreadRank& own, std::vector<float>& data, int from) {
  const auto buffer = buffer_of(data);
  return own.wait(own.submit(from < 0 ? C10D_OP_RECV_ANY_SOURCE : C10D_OP_RECV, from, nullptr, &buffer, kTag));
}

void give_time() { std::this_thread::sleep_for(std::chrono::milliseconds(5)); }

}  // namespace

TEST_CASE("sends and receives of a slot meet in order, whichever is first") {
  c10d::gloo_shim::MessageSizes sizes;
  CHECK(!sizes.send(1, 10));
  CHECK(!sizes.send(1, 20));
  CHECK(!sizes.receive(2, 5));
  CHECK(sizes.receive(1, 11) == 10);
  CHECK(sizes.receive(1, 21) == 20);
  CHECK(!sizes.receive(1, 31));
  CHECK(sizes.send(1, 30) == 31);
  CHECK(sizes.send(2, 5) == 5);
  CHECK(!sizes.send(2, 6));
}

TEST_CASE("sender, receiver and a third rank know the sizes of a message that does not fit") {
  struct Sizes {
    size_t sent;
    size_t expected;
  };
  enum class First { sender, receiver, neither };
  for (const auto& [sent, expected] : {Sizes{4, 3}, Sizes{3, 4}, Sizes{1, 0}, Sizes{0, 1}, Sizes{kMuch, 3},
                                       Sizes{3, kMuch}, Sizes{kMuch, kMuch - 1}}) {
    for (const First first : {First::sender, First::receiver, First::neither}) {
      for (const int from : {1, -1}) {
        CAPTURE(sent);
        CAPTURE(expected);
        CAPTURE(static_cast<int>(first));
        CAPTURE(from);
        const auto failures = on_all<FailureView>(3, [&, sent = sent, expected = expected](int rank, ThreadRank& own) {
          std::vector<float> data(rank == 1 ? sent : rank == 0 ? expected : 1);
          const auto buffer = buffer_of(data);
          if (rank == 0) {
            if (first == First::sender) give_time();
            return recv(own, data, from);
          }
          if (rank == 1) {
            if (first == First::receiver) give_time();
            return own.wait(own.submit(C10D_OP_SEND, 0, &buffer, nullptr, kTag));
          }
          return recv(own, data, 0);
        });
        for (const auto& failure : failures) check_sizes(failure, sent, expected);
      }
    }
  }
}

TEST_CASE("ranks that send to each other at the same time both know the sizes") {
  for (int round = 0; round < 10; round++) {
    const auto failures = on_all<Failures>(2, [&](int rank, ThreadRank& own) -> Failures {
      // Only what rank 1 sends does not fit.
      std::vector<float> out(rank == 0 ? kVeryMuch : 5);
      std::vector<float> in(rank == 0 ? 3 : kVeryMuch);
      const auto sent = buffer_of(out);
      const auto received = buffer_of(in);
      const auto recv_id = own.submit(C10D_OP_RECV, 1 - rank, nullptr, &received, kTag);
      // Rank 1 then finds out while it gets the message of rank 0.
      if (rank == 1) std::this_thread::sleep_for(std::chrono::milliseconds(round));
      const auto send_id = own.submit(C10D_OP_SEND, 1 - rank, &sent, nullptr, kTag);
      return {own.wait(recv_id), own.wait(send_id)};
    });
    REQUIRE(failures[0].size() == 2);
    REQUIRE(failures[1].size() == 2);
    check_sizes(failures[0][0], 5, 3);
    check_sizes(failures[1][1], 5, 3);
    // The other message may have been through.
    for (const auto& other : {failures[0][1], failures[1][0]}) {
      if (other.status != C10D_OK) check_sizes(other, 5, 3);
    }
  }
}

TEST_CASE("a message that does not fit, behind one that is still being sent") {
  for (int round = 0; round < 5; round++) {
    const auto failures = on_all<Failures>(2, [&](int rank, ThreadRank& own) -> Failures {
      const uint32_t op = rank == 0 ? C10D_OP_RECV : C10D_OP_SEND;
      std::vector<float> much(kMuch);
      std::vector<float> little(rank == 0 ? 3 : 4);
      if (round % 3 == rank) give_time();
      std::vector<int64_t> ids;
      for (auto* data : {&much, &little}) {
        const auto buffer = buffer_of(*data);
        ids.push_back(own.submit(op, 1 - rank, rank == 0 ? nullptr : &buffer, rank == 0 ? &buffer : nullptr,
                                 data == &much ? kTag : kTag + 1));
      }
      Failures ends;
      for (const auto id : ids) ends.push_back(own.wait(id));
      // A send that was on its way learns it from the next op at the latest.
      if (ends[1].status == C10D_OK) {
        while (!own.failed()) give_time();
        const auto buffer = buffer_of(little);
        ends[1] = own.wait(own.submit(C10D_OP_RECV, 1 - rank, nullptr, &buffer, kTag));
      }
      return ends;
    });
    for (const auto& ends : failures) {
      REQUIRE(ends.size() == 2);
      check_sizes(ends[1], 4, 3);
    }
  }
}
