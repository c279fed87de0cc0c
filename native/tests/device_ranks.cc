#include "device_ranks.h"

#include <doctest/doctest.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <limits>
#include <thread>

namespace c10d::test {

namespace {

using Clock = std::chrono::steady_clock;

constexpr auto kPatience = std::chrono::seconds(20);
constexpr auto kInterval = std::chrono::microseconds(200);

c10d_config config_of(int32_t rank, int32_t world_size, int32_t device, const std::string& options) {
  c10d_config config{};
  config.size = sizeof config;
  config.rank = rank;
  config.world_size = world_size;
  config.device_type = C10D_DEVICE_CUDA;
  config.device_index = device;
  config.timeout_ms = 20'000;
  config.options = reinterpret_cast<uint64_t>(options.data());
  config.options_bytes = options.size();
  return config;
}

}  // namespace

// ---- memory ----------------------------------------------------------------------------------------------------

DeviceBuffer::DeviceBuffer(int32_t device, size_t floats)
    : device_(device), floats_(floats), address_(test_device::allocate(device, floats * sizeof(float))) {
  REQUIRE(address_ != 0);
}

DeviceBuffer::~DeviceBuffer() { test_device::free(address_); }

void DeviceBuffer::write(uint64_t stream, const std::vector<float>& numbers) const {
  test_device::copy_in(device_, stream, address_, numbers.data(), numbers.size() * sizeof(float));
}

std::vector<float> DeviceBuffer::read(uint64_t stream) const {
  std::vector<float> numbers(floats_);
  test_device::copy_out(device_, stream, numbers.data(), address_, bytes());
  return numbers;
}

bool DeviceBuffer::is_poison(uint64_t stream) const {
  std::vector<uint8_t> seen(bytes());
  test_device::copy_out(device_, stream, seen.data(), address_, bytes());
  return std::all_of(seen.begin(), seen.end(), [](uint8_t byte) { return byte == test_device::poison(); });
}

// ---- ops -------------------------------------------------------------------------------------------------------

DeviceOp::DeviceOp(c10d_opcode opcode, uint64_t stream) {
  op_.size = sizeof op_;
  op_.opcode = opcode;
  op_.dtype = C10D_FLOAT32;
  op_.peer = -1;
  op_.device_type = C10D_DEVICE_CUDA;
  op_.flags = C10D_FLAG_TIMES;
  if (stream == kNoStream) return;
  op_.stream = stream;
  op_.flags |= C10D_FLAG_STREAM;
}

DeviceOp::DeviceOp(c10d_service service) : DeviceOp(static_cast<c10d_opcode>(service)) {}

DeviceOp& DeviceOp::in(const DeviceBuffer& buffer) {
  inputs_.push_back({buffer.address(), buffer.bytes()});
  return *this;
}

DeviceOp& DeviceOp::out(const DeviceBuffer& buffer) {
  outputs_.push_back({buffer.address(), buffer.bytes()});
  return *this;
}

DeviceOp& DeviceOp::peer(int32_t rank) {
  op_.peer = rank;
  return *this;
}

DeviceOp& DeviceOp::tag(uint32_t tag) {
  op_.tag = tag;
  return *this;
}

DeviceOp& DeviceOp::limit(double ms) {
  op_.timeout_ms = ms;
  return *this;
}

c10d_op DeviceOp::record(int32_t device) const {
  c10d_op op = op_;
  op.device_index = device;
  op.inputs = reinterpret_cast<uint64_t>(inputs_.data());
  op.input_count = static_cast<uint32_t>(inputs_.size());
  op.outputs = reinterpret_cast<uint64_t>(outputs_.data());
  op.output_count = static_cast<uint32_t>(outputs_.size());
  return op;
}

// ---- ranks -----------------------------------------------------------------------------------------------------

DeviceRanks::DeviceRanks(int32_t world_size, const Settings& settings) : ranks_(static_cast<size_t>(world_size)) {
  std::string options;
  for (const auto& setting : settings) options.append(setting).push_back('\0');
  for (int32_t rank = 0; rank < world_size; rank++) {
    const auto config = config_of(rank, world_size, device(rank), options);
    ranks_[static_cast<size_t>(rank)].group = c10d_create(&config);
  }
  connect();
}

DeviceRanks::DeviceRanks(DeviceRanks& parent, const std::vector<int32_t>& colors) : ranks_(colors.size()) {
  for (int32_t rank = 0; rank < parent.size(); rank++) {
    const auto begin = colors.begin();
    const int32_t color = colors[static_cast<size_t>(rank)];
    const auto place = static_cast<int32_t>(std::count(begin, begin + rank, color));
    const auto count = static_cast<int32_t>(std::count(begin, colors.end(), color));
    auto config = config_of(color < 0 ? 0 : place, color < 0 ? 1 : count, device(rank), "");
    config.color = color;
    ranks_[static_cast<size_t>(rank)].group = c10d_split(parent.group(rank), &config);
  }
  connect();
}

void DeviceRanks::connect() {
  for (auto& rank : ranks_) {
    if (rank.group == nullptr) FAIL(last_error());
    rank.wake_fd = c10d_wake_fd(rank.group);
  }
  const auto deadline = Clock::now() + kPatience;
  while (std::any_of(ranks_.begin(), ranks_.end(), [](const Rank& rank) { return !rank.ready; })) {
    REQUIRE(Clock::now() < deadline);
    for (auto& rank : ranks_) serve(rank);
    answer();
    std::this_thread::sleep_for(kInterval);
  }
}

DeviceRanks::~DeviceRanks() {
  for (int32_t rank = 0; rank < size(); rank++) {
    if (group(rank) != nullptr) CHECK(close(rank) == 0);
    ::close(ranks_[static_cast<size_t>(rank)].wake_fd);
  }
}

int32_t DeviceRanks::close(int32_t rank, double timeout_ms) {
  const int32_t left = c10d_close(group(rank), timeout_ms);
  if (left == 0) ranks_[static_cast<size_t>(rank)].group = nullptr;
  return left;
}

void DeviceRanks::serve(Rank& rank) {
  c10d_event events[16];
  for (int32_t count = 16; count == 16;) {
    count = c10d_drain(rank.group, events, sizeof events[0], 16);
    REQUIRE(count >= 0);
    for (int32_t i = 0; i < count; i++) {
      const auto& event = events[i];
      if (event.kind == C10D_EVENT_READY) rank.ready = event;
      if (event.kind != C10D_EVENT_STORE_SET && event.kind != C10D_EVENT_STORE_GET) {
        rank.events.push_back(event);
        continue;
      }
      std::string key(event.key_bytes, '\0');
      std::vector<char> value(event.value_bytes);
      REQUIRE(c10d_exchange_read(rank.group, event.id, key.data(), event.key_bytes, value.data(), event.value_bytes) ==
              C10D_OK);
      if (event.kind == C10D_EVENT_STORE_GET) {
        rank.wanted.insert({event.id, key});
      } else {
        store_[key] = std::move(value);
        c10d_exchange_reply(rank.group, event.id, C10D_OK, nullptr, 0);
      }
    }
  }
}

void DeviceRanks::answer() {
  for (auto& rank : ranks_) {
    for (auto at = rank.wanted.begin(); at != rank.wanted.end();) {
      const auto found = store_.find(at->second);
      if (found == store_.end()) {
        at++;
        continue;
      }
      const auto& value = found->second;
      c10d_exchange_reply(rank.group, at->first, C10D_OK, value.data(), static_cast<uint32_t>(value.size()));
      at = rank.wanted.erase(at);
    }
  }
}

int64_t DeviceRanks::submit(int32_t rank, const std::vector<DeviceOp>& ops) const {
  std::vector<c10d_op> records;
  for (const auto& op : ops) records.push_back(op.record(device(rank)));
  return c10d_submit(group(rank), records.data(), static_cast<uint32_t>(records.size()));
}

int64_t DeviceRanks::run(int32_t rank, const DeviceOp& op) const {
  const int64_t id = submit(rank, op);
  c10d_kick(group(rank));
  return id;
}

std::optional<c10d_event> DeviceRanks::completion(int32_t rank, int64_t id, int ms) {
  auto& own = ranks_.at(static_cast<size_t>(rank));
  const auto deadline = Clock::now() + std::chrono::milliseconds(ms);
  for (;;) {
    serve(own);
    for (const auto& event : own.events) {
      if (event.kind == C10D_EVENT_COMPLETE && event.id == static_cast<uint64_t>(id)) return event;
    }
    if (Clock::now() >= deadline) return std::nullopt;
    std::this_thread::sleep_for(kInterval);
  }
}

}  // namespace c10d::test
