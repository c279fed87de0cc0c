// Thread levels and the driver slot.
#include <dirent.h>
#include <doctest/doctest.h>
#include <signal.h>

#include <algorithm>
#include <ctime>
#include <fstream>
#include <thread>

#include "host.h"

using namespace c10d::test;

namespace {

/// Submits, kicks and waits in all ways, so that driver and waiter compete.
void compete(Host& host, int rounds) {
  int64_t last = 0;
  for (int i = 0; i < rounds; i++) {
    for (int k = 0; k < 3; k++) last = host.submit(script(Outcome::success, static_cast<uint32_t>(i * 37 % 200)));
    if (i % 3 != 0) host.kick();
    if (i % 2 == 0) CHECK(host.wait(last - 1) == C10D_OK);
    host.kick();
    if (i % 4 == 1) host.wait(last, 0.05);
    host.drain();
  }
  const auto end = host.submit({0, kForever, C10D_OP_BARRIER});
  CHECK(host.wait(end) == C10D_OK);
}

double cpu_seconds() {
  timespec now{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) / 1e9;
}

}  // namespace

TEST_CASE("serialized: never two threads in the library at once") {
  for (const char* model : kModels) {
    CAPTURE(std::string(model));
    Host host({model, "level=serialized", "concurrency=4"});
    compete(host, 60);
    const auto record = host.journal().read();
    CHECK(record.most_calls == 1);
    CHECK(record.ended.size() == 181);
    CHECK(record.call_threads.count(pthread_self()) == 1);
    CHECK(record.call_threads.size() <= 2);
  }
}

TEST_CASE("funneled: one thread makes every call, from connect() to close()") {
  for (const char* model : kModels) {
    CAPTURE(std::string(model));
    Host host({model, "level=funneled", "concurrency=4"});
    compete(host, 60);
    CHECK(host.close(5'000) == 0);
    const auto record = host.journal().read();
    CHECK(record.ended.size() == 181);
    CHECK(record.closes == 1);
    CHECK(record.connect_threads.size() == 1);
    CHECK(record.call_threads == record.connect_threads);
    CHECK(record.call_threads.count(pthread_self()) == 0);
  }
}

TEST_CASE("funneled: the thread asks the library for errors while nothing is in flight, if it wants that") {
  Host host({"model=polling", "level=funneled", "idle=1"});
  CHECK(host.journal().await([](const auto& record) { return record.idle_calls >= 3; }));
  CHECK(host.wait(host.submit(script(Outcome::success))) == C10D_OK);
  const auto before = host.journal().read().idle_calls;
  CHECK(host.journal().await([&](const auto& record) { return record.idle_calls >= before + 3; }));
  const auto record = host.journal().read();
  CHECK(record.call_threads == record.connect_threads);
}

TEST_CASE(
    "funneled: such a library is called when the group fails, long before the next time, and at the latest by the "
    "end") {
  for (const bool closes : {false, true}) {
    CAPTURE(closes);
    Host host({"model=polling", "level=funneled", "idle=100000"});
    CHECK(host.journal().await([](const auto& record) { return record.idle_calls == 1; }));
    c10d_abort(host.group(), C10D_ERR_ABORTED, "enough");
    if (closes) {
      CHECK(host.close(5'000) == 0);
      CHECK(host.journal().read().idle_calls >= 2);
    } else {
      CHECK(host.journal().await([](const auto& record) { return record.idle_calls >= 2; }));
    }
  }
}

TEST_CASE("multiple: starts are in order and one at a time, everything else is concurrent") {
  for (const char* model : kModels) {
    CAPTURE(std::string(model));
    Host host({model, "concurrency=4"});
    compete(host, 60);
    const auto record = host.journal().read();
    CHECK(record.most_starts == 1);
    CHECK(record.most_in_flight <= 4);
    CHECK(std::is_sorted(record.started.begin(), record.started.end()));
    CHECK(record.ended.size() == 181);
  }
}

TEST_CASE("wait takes the driver slot from the worker, and the worker takes it back afterwards") {
  for (const char* model : {"model=polling", "model=eventfd"}) {
    for (const char* level : {"level=multiple", "level=serialized"}) {
      CAPTURE(std::string(model));
      CAPTURE(std::string(level));
      Host host({model, level, "concurrency=4"});
      for (int i = 0; i < 3; i++) host.submit(script(Outcome::gated));
      host.kick();
      REQUIRE(host.journal().await_started(3));
      std::thread opener([&, waiter = pthread_self()] {
        host.journal().await([waiter](const auto& record) { return record.call_threads.count(waiter) > 0; });
        host.journal().open_gate(3);
      });
      CHECK(host.wait(3) == C10D_OK);
      opener.join();
      CHECK(host.journal().read().run_threads == std::set<pthread_t>{pthread_self()});
      CHECK(host.wait(2, 5) == C10D_ERR_WAIT_TIMEOUT);
      host.journal().open_gate(1);
      CHECK(host.completion(1).status == C10D_OK);
      CHECK(host.journal().read().run_threads.size() == 2);
      host.journal().open_gate(2);
      CHECK(host.completion(2).status == C10D_OK);
    }
  }
}

TEST_CASE("an op that only wait has started continues after a wait time-out, without a kick") {
  for (const char* model : {"model=polling", "model=eventfd"}) {
    CAPTURE(std::string(model));
    Host host({model, "level=serialized"});
    host.submit(script(Outcome::gated));
    CHECK(host.wait(1, 2) == C10D_ERR_WAIT_TIMEOUT);
    CHECK(host.quiet(5));
    host.journal().open_all();
    CHECK(host.completion(1).status == C10D_OK);
  }
}

TEST_CASE("wait wakes a sleeping driver, to take its slot") {
  bool driving = false;
  // Left alone, the driver polls every 50 ms. Several attempts, since a busy machine may take as long.
  for (int attempt = 0; attempt < 5 && !driving; attempt++) {
    Host host({"model=eventfd"});
    host.submit(script(Outcome::success, 60'000'000));
    host.kick();
    REQUIRE(host.journal().await_started(1));
    std::this_thread::sleep_for(std::chrono::milliseconds(3));
    CHECK(host.wait(1, 30) == C10D_ERR_WAIT_TIMEOUT);
    driving = host.journal().read().call_threads.count(pthread_self()) > 0;
  }
  CHECK(driving);
}

TEST_CASE("a new op wakes a sleeping driver") {
  for (const char* level : {"level=multiple", "level=serialized", "level=funneled"}) {
    CAPTURE(std::string(level));
    Host host({"model=eventfd", level, "concurrency=4"});
    host.submit(script(Outcome::success, 60'000'000));
    host.kick();
    REQUIRE(host.journal().await_started(1));
    // Left alone, it polls every 50 ms. Several attempts, since a busy machine may take as long.
    int64_t id = 2;
    double best = kForever;
    for (int attempt = 0; attempt < 10 && best > 300; attempt++) {
      const Stopwatch watch;
      for (int i = 0; i < 10; i++, id++) {
        std::this_thread::sleep_for(std::chrono::milliseconds(3));
        host.submit({});
        host.kick();
        CHECK(host.completion(id).status == C10D_OK);
      }
      best = std::min(best, watch.ms());
    }
    CHECK(best < 300);
  }
}

TEST_CASE("a mixed library: a blocking op does not delay a pending one, nor the other way round") {
  Host host({"model=mixed"});
  host.submit({script(Outcome::gated), kForever, C10D_OP_RECV});
  host.submit(script(Outcome::gated));
  host.submit({script(Outcome::success, 2'000), kForever, C10D_OP_SEND});
  host.kick();
  CHECK(host.completion(3).status == C10D_OK);
  host.journal().open_gate(2);
  CHECK(host.completion(2).status == C10D_OK);
  CHECK(host.wait(host.submit({})) == C10D_OK);
  host.journal().open_gate(1);
  CHECK(host.wait(1) == C10D_OK);
}

TEST_CASE("an op that is pending for a long time takes little processor time") {
  for (const char* model : kModels) {
    for (const bool by_wait : {false, true}) {
      // A library without a descriptor can only be polled, which a waiting thread does without a pause.
      if (by_wait && model == std::string("model=polling")) continue;
      CAPTURE(std::string(model));
      CAPTURE(by_wait);
      Host host({model});
      host.submit(script(Outcome::success, 300'000));
      const double before = cpu_seconds();
      if (by_wait) {
        CHECK(host.wait(1) == C10D_OK);
      } else {
        host.kick();
        CHECK(host.completion(1).status == C10D_OK);
      }
      CHECK(cpu_seconds() - before < 0.3 * (kSanitized ? 0.5 : 0.2));
    }
  }
}

namespace {

/// What the kernel reports about a thread of this process.
struct ThreadStatus {
  std::string name;
  unsigned long long blocked = 0;

  static ThreadStatus read(const std::string& task) {
    ThreadStatus status;
    std::ifstream file("/proc/self/task/" + task + "/status");
    for (std::string line; std::getline(file, line);) {
      if (line.rfind("Name:", 0) == 0) status.name = line.substr(6);
      if (line.rfind("SigBlk:", 0) == 0) status.blocked = std::stoull(line.substr(8), nullptr, 16);
    }
    return status;
  }
  bool blocks(int signal) const { return (blocked >> (signal - 1) & 1) == 1; }
};

}  // namespace

TEST_CASE("the engine's threads block all signals but their own faults") {
  const auto pid_before = [] {
    std::set<std::string> tasks;
    DIR* directory = ::opendir("/proc/self/task");
    REQUIRE(directory != nullptr);
    while (const dirent* entry = ::readdir(directory)) tasks.insert(entry->d_name);
    ::closedir(directory);
    return tasks;
  };
  const auto before = pid_before();
  sigset_t own_before;
  pthread_sigmask(SIG_SETMASK, nullptr, &own_before);
  Host host({"model=blocking", "concurrency=3"});
  for (int i = 0; i < 3; i++) host.submit(script(Outcome::gated));
  host.kick();
  REQUIRE(host.journal().await_started(3));
  unsigned found = 0;
  for (const auto& task : pid_before()) {
    if (before.count(task) > 0) continue;
    // The C library starts every thread with all signals blocked; the thread then sets its own mask.
    const Stopwatch watch;
    ThreadStatus status = ThreadStatus::read(task);
    while (status.blocks(SIGSEGV) && watch.ms() < 5000) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      status = ThreadStatus::read(task);
    }
    CAPTURE(status.name);
    found++;
    for (const int taken : {SIGINT, SIGTERM, SIGCHLD, SIGUSR1, SIGHUP, SIGALRM, SIGPIPE, SIGWINCH}) {
      CHECK(status.blocks(taken));
    }
    for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL}) CHECK(!status.blocks(fault));
    CHECK(status.name.rfind("c10d-", 0) == 0);
  }
  CHECK(found == 4);  // the monitor and three workers
  sigset_t own_after;
  pthread_sigmask(SIG_SETMASK, nullptr, &own_after);
  for (const int signal : {SIGINT, SIGTERM, SIGCHLD}) {
    CHECK(sigismember(&own_before, signal) == sigismember(&own_after, signal));
  }
}
