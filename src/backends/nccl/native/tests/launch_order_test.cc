// The order of launches of several groups on one device.
#include "launch_order.h"

#include <doctest/doctest.h>

#include <memory>

using c10d::nccl_shim::LaunchOrder;

namespace {

using Member = LaunchOrder::Member;

const auto now = LaunchOrder::Clock::now;
const auto long_ago = [] { return now() - std::chrono::seconds(1); };

}  // namespace

TEST_CASE("order: a group that is alone waits for nothing") {
  LaunchOrder order;
  Member only(order);
  CHECK(only.take() == 0);
  CHECK(only.may_launch(0, now()));
}

TEST_CASE("order: ops of two groups launch in the order of their submission") {
  LaunchOrder order;
  Member first(order), second(order);
  const auto a = first.take();
  const auto b = second.take();
  const auto c = first.take();
  CHECK(first.may_launch(a, now()));
  CHECK_FALSE(second.may_launch(b, now()));
  CHECK_FALSE(first.may_launch(c, now()));
  first.give_back(a);
  CHECK(second.may_launch(b, now()));
  CHECK_FALSE(first.may_launch(c, now()));
  second.give_back(b);
  CHECK(first.may_launch(c, now()));
}

TEST_CASE("order: a group that leaves holds up nobody") {
  LaunchOrder order;
  auto first = std::make_unique<Member>(order);
  Member second(order);
  first->take();
  const auto b = second.take();
  CHECK_FALSE(second.may_launch(b, now()));
  SUBCASE("by failing") { first->leave(); }
  SUBCASE("by its end") { first.reset(); }
  CHECK(second.may_launch(b, now()));
}

TEST_CASE("order: an op that is not launched in time holds up others once") {
  LaunchOrder order;
  Member first(order), second(order);
  const auto a = first.take();
  const auto b = second.take();
  const auto c = second.take();
  CHECK_FALSE(second.may_launch(b, now()));
  CHECK(second.may_launch(b, long_ago()));
  second.give_back(b);
  CHECK(second.may_launch(c, now()));
  CHECK(first.may_launch(a, now()));
}
