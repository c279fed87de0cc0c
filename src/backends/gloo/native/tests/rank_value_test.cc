// What Gloo's ranks publish for each other in the store.
#include "rank_value.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "ops/failure.h"

using c10d::Failure;
using c10d::gloo_shim::RankValue;

namespace {

/// The value of a rank in a group of so many ranks.
std::vector<char> published(size_t ranks) {
  RankValue value;
  value.host_name = "here";
  value.address = c10d::SocketAddress("127.0.0.1", 4711);
  value.connection_numbers.assign(ranks, 7);
  return value.encode();
}

std::string refusal_of(const std::vector<char>& bytes, int world_size) {
  try {
    RankValue::decode(bytes, world_size);
  } catch (const Failure& failure) {
    return failure.text();
  }
  return "none";
}

}  // namespace

TEST_CASE("a published value is decoded as it was") {
  const auto value = RankValue::decode(published(3), 3);
  CHECK(value.host_name == "here");
  CHECK(value.connection_numbers == std::vector<int64_t>{7, 7, 7});
  CHECK(RankValue::decode(published(0), 3).connection_numbers.empty());
}

TEST_CASE("a value for a group of another size is refused") {
  CHECK(refusal_of(published(2), 3).find("it makes this group of 2 ranks, this rank of 3. All ranks of the job") == 0);
  CHECK(refusal_of(published(3), 3) == "none");
}

TEST_CASE("a truncated value is refused") {
  const auto whole = published(2);
  for (size_t length = 0; length < whole.size() - 2 * sizeof(int64_t); length++) {
    CAPTURE(length);
    CHECK(refusal_of({whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(length)}, 2) != "none");
  }
}
