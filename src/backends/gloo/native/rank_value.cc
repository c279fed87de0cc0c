#include "rank_value.h"

#include <cstring>

#include "ops/failure.h"

namespace c10d::gloo_shim {

namespace {

constexpr uint64_t kAddressBytes = SocketAddress::kWireBytes + sizeof(int64_t);
constexpr uint64_t kMaxHostName = 4096;
/// Follows the address. PyTorch writes it, and it is never read.
constexpr int64_t kNoNumber = -1;

template <class T>
void append(std::vector<char>& to, const T& value) {
  const auto* bytes = reinterpret_cast<const char*>(&value);
  to.insert(to.end(), bytes, bytes + sizeof value);
}

class Reader {
 public:
  explicit Reader(const std::vector<char>& bytes) : bytes_(bytes) {}
  size_t left() const { return bytes_.size() - at_; }
  const char* take(uint64_t count) {
    if (count > left()) throw Failure(C10D_ERR_NETWORK, "a rank published an address value that is cut short");
    const char* from = bytes_.data() + at_;
    at_ += count;
    return from;
  }
  template <class T>
  T number() {
    T value;
    std::memcpy(&value, take(sizeof value), sizeof value);
    return value;
  }

 private:
  const std::vector<char>& bytes_;
  size_t at_ = 0;
};

}  // namespace

std::vector<char> RankValue::encode() const {
  std::vector<char> bytes;
  append<uint64_t>(bytes, host_name.size());
  bytes.insert(bytes.end(), host_name.begin(), host_name.end());
  append(bytes, kAddressBytes);
  bytes.insert(bytes.end(), address.wire(), address.wire() + SocketAddress::kWireBytes);
  append(bytes, kNoNumber);
  for (const int64_t number : connection_numbers) append(bytes, number);
  return bytes;
}

RankValue RankValue::decode(const std::vector<char>& bytes, int world_size) {
  Reader reader(bytes);
  RankValue value;
  const auto host_bytes = reader.number<uint64_t>();
  if (host_bytes > kMaxHostName) {
    throw Failure(C10D_ERR_NETWORK, "a rank published an address value of an unknown format (is it another Gloo?)");
  }
  const char* host = reader.take(host_bytes);
  value.host_name.assign(host, host + host_bytes);
  if (reader.number<uint64_t>() != kAddressBytes) {
    throw Failure(C10D_ERR_NETWORK, "a rank published an address value of an unknown format (is it another Gloo?)");
  }
  value.address = SocketAddress::from_wire(reader.take(SocketAddress::kWireBytes));
  reader.number<int64_t>();
  if (reader.left() == 0) return value;
  if (reader.left() != static_cast<size_t>(world_size) * sizeof(int64_t)) {
    throw Failure(C10D_ERR_INVALID, "it makes this group of " + std::to_string(reader.left() / sizeof(int64_t)) +
                                        " ranks, this rank of " + std::to_string(world_size) +
                                        ". All ranks of the job, members or not, must make the same groups in the "
                                        "same order");
  }
  for (int i = 0; i < world_size; i++) value.connection_numbers.push_back(reader.number<int64_t>());
  return value;
}

}  // namespace c10d::gloo_shim
