// What the engine adds to an op: submit and wait of ops that end at once.
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <limits>
#include <memory>
#include <vector>

#include "c10d.h"
#include "engine/transport.h"

namespace {

using c10d::Clock;
using c10d::Op;
using c10d::Transport;

class NullTransport final : public Transport {
 public:
  NullTransport(Start start, c10d::ThreadLevel level) : start_(start), level_(level) {}
  void connect(c10d::Exchange&) override {}
  void check(const Op&) const override {}
  void number(Op& op) noexcept override { op.ticket = next_++; }
  Start start(Op& op) override {
    if (start_ == Start::pending) pending_.push_back(&op);
    return start_;
  }
  void progress(std::vector<Op*>& ended) override { ended.swap(pending_); }
  c10d::ThreadLevel thread_level() const override { return level_; }
  void abort(const c10d::Failure&) noexcept override {}

 private:
  const Start start_;
  const c10d::ThreadLevel level_;
  uint64_t next_ = 0;
  std::vector<Op*> pending_;
};

}  // namespace

namespace c10d {

std::shared_ptr<Transport> make_transport(const Config& config) {
  const auto model = config.options.get("model");
  const auto start = model == "polling"   ? Transport::Start::pending
                     : model == "instant" ? Transport::Start::done
                                          : Transport::Start::blocking;
  return std::make_shared<NullTransport>(
      start, config.options.get("level") == "serialized" ? ThreadLevel::serialized : ThreadLevel::multiple);
}

std::string probe() { return "null"; }

}  // namespace c10d

namespace {

c10d_group* open_group(const std::string& options) {
  c10d_config config{};
  config.size = sizeof config;
  config.world_size = 1;
  config.timeout_ms = 10'000;
  config.options = reinterpret_cast<uint64_t>(options.data());
  config.options_bytes = options.size();
  c10d_group* group = c10d_create(&config);
  while (group != nullptr && c10d_group_state(group) == C10D_CONNECTING) ::usleep(100);
  c10d_event event;
  while (group != nullptr && c10d_drain(group, &event, sizeof event, 1) > 0) continue;
  return group;
}

/// Best of several rounds, in nanoseconds for each call.
template <class Body>
double nanoseconds(int calls, Body body) {
  double best = std::numeric_limits<double>::infinity();
  for (int round = 0; round < 7; round++) {
    const auto start = Clock::now();
    for (int i = 0; i < calls; i++) body();
    best = std::min(best, std::chrono::duration<double, std::nano>(Clock::now() - start).count() / calls);
  }
  return best;
}

}  // namespace

int main() {
  for (const char* level : {"multiple", "serialized"}) {
    for (const char* model : {"instant", "blocking", "polling"}) {
      for (const double timeout : {std::numeric_limits<double>::infinity(), 1'800'000.0}) {
        using namespace std::string_literals;
        c10d_group* group = open_group("model="s + model + '\0' + "level=" + level + '\0');
        if (group == nullptr) return 1;
        uint64_t data = 0;
        const c10d_buffer buffer{0, sizeof data};
        c10d_op op{};
        op.size = sizeof op;
        op.opcode = C10D_OP_ALLREDUCE;
        op.timeout_ms = timeout;
        op.outputs = reinterpret_cast<uint64_t>(&buffer);
        op.output_count = 1;
        const double waited = nanoseconds(200'000, [&] {
          const auto id = c10d_submit_one(group, &op, nullptr, &data);
          c10d_wait(group, static_cast<uint64_t>(id), std::numeric_limits<double>::infinity(), nullptr, 0);
        });
        const double awaited = nanoseconds(5'000, [&] {
          c10d_submit_one(group, &op, nullptr, &data);
          c10d_kick(group);
          c10d_event events[8];
          while (c10d_drain(group, events, sizeof events[0], 8) == 0) {
            pollfd source{c10d_wake_fd(group), POLLIN, 0};
            ::poll(&source, 1, 1'000);
            char bytes[8];
            [[maybe_unused]] const auto got = ::read(source.fd, bytes, sizeof bytes);
          }
        });
        std::printf("%-10s %-8s time-out %-9g submit+wait %6.0f ns   submit+kick+poll+drain %6.0f ns\n", level, model,
                    timeout, waited, awaited);
        c10d_close(group, 1'000);
      }
    }
  }
}
