// Many ops, many groups.
#include <dirent.h>
#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <random>
#include <set>
#include <thread>

#include "host.h"

using namespace c10d::test;

namespace {

#if defined(__SANITIZE_THREAD__)
constexpr int kOps = 20'000;
#else
constexpr int kOps = 100'000;
#endif

int entries(const char* path) {
  int count = 0;
  DIR* directory = ::opendir(path);
  REQUIRE(directory != nullptr);
  while (::readdir(directory) != nullptr) count++;
  ::closedir(directory);
  return count;
}

/// Submits, kicks, waits and drains at random; each op must end exactly once and with its own result.
void storm(const Settings& settings, int ops) {
  std::string described;
  for (const auto& setting : settings) described += setting + " ";
  CAPTURE(described);
  Host host(settings);
  std::mt19937 random(4711);
  std::set<int64_t> open;
  std::set<int64_t> collected;
  unsigned wrong = 0;
  const auto settle = [&](int64_t id, int32_t status) {
    if (status != C10D_OK || open.erase(id) != 1 || host.result(id) != result_of(static_cast<uint64_t>(id - 1)))
      wrong++;
  };
  const auto collect = [&] {
    for (const auto& event : host.drain()) {
      if (event.kind == C10D_EVENT_COMPLETE) settle(static_cast<int64_t>(event.id), event.status);
    }
  };
  for (int done = 0; done < ops;) {
    const auto count = 1 + random() % 8;
    for (unsigned i = 0; i < count; i++, done++) {
      Request request{script(Outcome::success, random() % 16 == 0 ? random() % 40 : 0), 60'000};
      if (random() % 16 == 0) request.opcode = C10D_OP_BARRIER;
      if (random() % 16 == 1) request.opcode = C10D_OP_SEND;
      open.insert(host.submit(request));
    }
    if (random() % 2 == 0) host.kick();
    if (random() % 2 == 0 && !open.empty()) {
      const int64_t id = random() % 2 == 0 ? *open.begin() : *open.rbegin();
      const auto status = host.wait(id, random() % 4 == 0 ? 0.02 : kForever);
      if (status != C10D_ERR_WAIT_TIMEOUT) settle(id, status);
    }
    if (random() % 4 == 0) collect();
    while (open.size() > 200) {
      const int64_t id = *open.begin();
      settle(id, host.wait(id));
    }
  }
  host.kick();
  // The rest arrives only as events.
  collect();
  while (!open.empty()) {
    REQUIRE(host.awoken(10'000));
    collect();
  }
  CHECK(wrong == 0);
  const auto stats = host.stats();
  CHECK(stats.submitted == static_cast<uint64_t>(host.journal().read().ended.size()));
  CHECK(stats.completed == stats.submitted);
}

}  // namespace

TEST_CASE("100 000 ops, by events and by wait, over all models") {
  const char* const models[] = {"model=blocking", "model=polling", "model=eventfd", "model=mixed", "model=instant"};
  const char* const levels[] = {"level=multiple", "level=serialized", "level=funneled"};
  for (const char* model : models) {
    for (const char* level : levels) {
      // One thread would not do if an op could block forever on a peer; here none does.
      storm({model, level, "concurrency=3"}, kOps / 15);
    }
  }
}

TEST_CASE("200 groups come and go without leaving a descriptor or a thread") {
  const int threads = entries("/proc/self/task");
  const int descriptors = entries("/proc/self/fd");
  for (int i = 0; i < 200; i++) {
    Host host({i % 2 == 0 ? "model=blocking" : "model=eventfd", "concurrency=2"}, kForever, i % 8 != 0);
    if (i % 8 == 0) continue;
    for (int k = 0; k < 4; k++) host.submit(script(i % 3 == 0 ? Outcome::hang : Outcome::success, 20));
    if (i % 4 != 1) host.kick();
    if (i % 3 != 0) CHECK(host.wait(3) == C10D_OK);
    if (i % 5 == 0) c10d_abort(host.group(), C10D_ERR_ABORTED, "enough");
  }
  // A joined thread is listed until the kernel has removed it.
  for (int i = 0; i < 1'000 && entries("/proc/self/task") > threads; i++) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  CHECK(entries("/proc/self/task") == threads);
  CHECK(entries("/proc/self/fd") == descriptors);
}

TEST_CASE("a group whose socket was never requested leaves no descriptor") {
  const int descriptors = entries("/proc/self/fd");
  c10d_group* group = create_group({"model=blocking"});
  REQUIRE(group != nullptr);
  CHECK(c10d_close(group, 5'000) == 0);
  CHECK(entries("/proc/self/fd") == descriptors);
}
