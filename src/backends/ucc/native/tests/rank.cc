#include "rank.h"

#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <fstream>
#include <iterator>
#include <limits>
#include <stdexcept>

#include "tests/failure_view.h"

namespace c10d::test {

namespace {

constexpr int kMomentMs = 2;
constexpr double kForever = std::numeric_limits<double>::infinity();

std::vector<c10d_buffer> table_of(std::vector<std::vector<float>>& buffers) {
  std::vector<c10d_buffer> table;
  for (auto& buffer : buffers) {
    table.push_back({reinterpret_cast<uint64_t>(buffer.data()), buffer.size() * sizeof(float)});
  }
  return table;
}

}  // namespace

Rank::Rank(int rank, int world_size, const std::filesystem::path& folder, const std::vector<std::string>& options,
           bool connects)
    : rank_(rank), size_(world_size), folder_(folder) {
  std::filesystem::create_directories(folder_);
  c10d_config config{};
  config.size = sizeof config;
  config.rank = rank;
  config.world_size = world_size;
  config.timeout_ms = 60'000;
  std::string joined;
  for (const auto& option : options) joined.append(option).push_back('\0');
  config.options = reinterpret_cast<uint64_t>(joined.data());
  config.options_bytes = joined.size();
  group_ = c10d_create(&config);
  if (group_ == nullptr) throw std::runtime_error(c10d::test::last_error());
  wake_fd_ = c10d_wake_fd(group_);
  if (connects) connect();
}

Rank::~Rank() {
  if (group_ != nullptr) close();
  ::close(wake_fd_);
}

void Rank::connect() {
  while (!ready_) pump();
  if (ready_status_ == C10D_OK) return;
  throw std::runtime_error(c10d::test::take_failure(group_, 0).text);
}

Outcome Rank::try_connect(int dies_at) {
  dies_at_ = dies_at;
  while (!ready_) pump();
  const auto failure = c10d::test::take_failure(group_, 0);
  return {ready_status_, failure.peer, failure.text};
}

int64_t Rank::submit(Call& call) {
  const auto inputs = table_of(call.inputs);
  const auto outputs = table_of(call.outputs);
  c10d_op op{};
  op.size = sizeof op;
  op.opcode = call.opcode;
  op.dtype = call.dtype;
  op.reduce_op = call.reduce_op;
  op.peer = call.peer;
  op.tag = call.tag;
  op.timeout_ms = call.timeout_ms;
  op.inputs = reinterpret_cast<uint64_t>(inputs.data());
  op.input_count = static_cast<uint32_t>(inputs.size());
  op.outputs = reinterpret_cast<uint64_t>(outputs.data());
  op.output_count = static_cast<uint32_t>(outputs.size());
  op.input_splits = reinterpret_cast<uint64_t>(call.input_splits.data());
  op.input_split_count = static_cast<uint32_t>(call.input_splits.size());
  op.output_splits = reinterpret_cast<uint64_t>(call.output_splits.data());
  op.output_split_count = static_cast<uint32_t>(call.output_splits.size());
  return c10d_submit(group_, &op, 1);
}

Outcome Rank::finish(int64_t id, Way way) {
  if (id < 0) return {static_cast<int32_t>(id), -1, c10d::test::last_error()};
  const auto key = static_cast<uint64_t>(id);
  c10d_event event{};
  // Its event may have arrived with that of another one.
  if (way == Way::wait && ended_.count(key) == 0) {
    event.status = c10d_wait(group_, key, kForever, &event, sizeof event);
  } else {
    kick();
    while (ended_.count(key) == 0) pump();
    event = ended_.at(key);
  }
  ended_.erase(key);
  return {event.status, event.peer, event.status == C10D_OK ? "" : error_of(key)};
}

std::string Rank::error_of(uint64_t id) const { return c10d::test::take_failure(group_, id).text; }

int32_t Rank::close() {
  const int32_t left = c10d_close(group_, 20'000);
  if (left == 0) group_ = nullptr;
  return left;
}

void Rank::pump() {
  pollfd source{wake_fd_, POLLIN, 0};
  if (::poll(&source, 1, wanted_.empty() ? 1'000 : kMomentMs) > 0) {
    char bytes[64];
    [[maybe_unused]] const auto got = ::read(wake_fd_, bytes, sizeof bytes);
  }
  c10d_event events[16];
  int32_t count = 16;
  while (count == 16) {
    count = c10d_drain(group_, events, sizeof events[0], 16);
    for (int32_t i = 0; i < count; i++) answer(events[i]);
  }
  look_up();
}

void Rank::answer(const c10d_event& event) {
  switch (event.kind) {
    case C10D_EVENT_READY:
      ready_ = true;
      ready_status_ = event.status;
      return;
    case C10D_EVENT_COMPLETE:
      ended_[event.id] = event;
      return;
    case C10D_EVENT_STORE_SET:
    case C10D_EVENT_STORE_GET:
      break;
    default:
      return;
  }
  std::string key(event.key_bytes, '\0');
  std::vector<char> value(event.value_bytes);
  c10d_exchange_read(group_, event.id, key.data(), event.key_bytes, value.data(), event.value_bytes);
  if (event.kind == C10D_EVENT_STORE_GET) {
    if (asked_++ == dies_at_) ::raise(SIGKILL);
    wanted_[event.id] = key;
    return;
  }
  const auto path = path_of(key);
  const auto unfinished = path.string() + ".unfinished";
  std::ofstream(unfinished, std::ios::binary).write(value.data(), static_cast<std::streamsize>(value.size()));
  std::filesystem::rename(unfinished, path);
  c10d_exchange_reply(group_, event.id, C10D_OK, nullptr, 0);
}

void Rank::look_up() {
  for (auto each = wanted_.begin(); each != wanted_.end();) {
    std::ifstream file(path_of(each->second), std::ios::binary);
    if (!file) {
      each++;
      continue;
    }
    const std::vector<char> value{std::istreambuf_iterator<char>(file), {}};
    c10d_exchange_reply(group_, each->first, C10D_OK, value.data(), static_cast<uint32_t>(value.size()));
    each = wanted_.erase(each);
  }
}

std::filesystem::path Rank::path_of(std::string key) const {
  for (char& c : key) {
    if (c == '/') c = '-';
  }
  return folder_ / key;
}

}  // namespace c10d::test
