// The end of a Worker: the hook of worker_end.h, and ops that work on copies.
#include <doctest/doctest.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "host.h"
#include "tests/fake_worker.h"

using namespace c10d::test;

namespace {

c10d_group* create(FakeWorker& worker, const Settings& settings) {
  std::string options;
  for (const auto& setting : settings) options.append(setting).push_back('\0');
  c10d_config config{};
  config.size = sizeof config;
  config.world_size = 1;
  config.timeout_ms = kForever;
  config.options = reinterpret_cast<uint64_t>(options.data());
  config.options_bytes = options.size();
  return worker.create(config);
}

void await_open(c10d_group* group) {
  while (c10d_group_state(group) == C10D_CONNECTING) std::this_thread::yield();
  REQUIRE(c10d_group_state(group) == C10D_OPEN);
}

int64_t submit(c10d_group* group, uint32_t tag, uint64_t* output, c10d_opcode opcode = C10D_OP_ALLREDUCE) {
  auto op = op_record(Request{tag, kForever, opcode});
  const c10d_buffer buffer{0, sizeof *output};
  op.outputs = reinterpret_cast<uint64_t>(&buffer);
  op.output_count = 1;
  return c10d_submit_one(group, &op, nullptr, output);
}

/// A group with an op that is stuck in the library until the journal opens the gates, and then writes to `output`.
c10d_group* start_stubborn(FakeWorker& worker, const Settings& settings, uint64_t* output) {
  c10d_group* group = create(worker, settings);
  await_open(group);
  ::close(c10d_wake_fd(group));
  submit(group, script(Outcome::stubborn), output);
  c10d_kick(group);
  Journal::latest()->await_started(1);
  return group;
}

/// Memory like that of a Worker: freed when it has ended.
using Memory = std::unique_ptr<uint64_t>;

}  // namespace

TEST_CASE("the module creates and closes groups") {
  FakeWorker worker;
  c10d_group* group = create(worker, {"model=blocking"});
  REQUIRE(group != nullptr);
  CHECK(worker.address() == number_of(&c10d_close));
  await_open(group);
  ::close(c10d_wake_fd(group));
  CHECK(worker.close(group, 5'000) == 0);
  CHECK(Journal::latest()->read().closes == 1);
  CHECK(create(worker, {"make=failure"}) == nullptr);
  // The end closes the rest, and does not touch what was closed before.
}

TEST_CASE("a Worker ends with ops in flight: they are aborted, and its memory is not touched afterwards") {
  for (const char* model : kModels) {
    for (const char* level : {"level=multiple", "level=serialized", "level=funneled"}) {
      for (const bool kicked : {false, true}) {
        CAPTURE(std::string(model));
        CAPTURE(std::string(level));
        CAPTURE(kicked);
        std::shared_ptr<Journal> journal;
        std::thread([&] {
          Memory memory[3] = {std::make_unique<uint64_t>(), std::make_unique<uint64_t>(), std::make_unique<uint64_t>()};
          FakeWorker worker;
          c10d_group* group = create(worker, {model, level});
          journal = Journal::latest();
          await_open(group);
          ::close(c10d_wake_fd(group));
          for (auto& each : memory) submit(group, script(Outcome::hang), each.get());
          if (kicked) {
            c10d_kick(group);
            journal->await_started(1);
          }
          worker.end();
        }).join();
        CHECK(journal->await_aborts());
        CHECK(journal->read().abort_text == "its Worker has ended");
        CHECK(journal->read().closes == 0);
      }
    }
  }
}

TEST_CASE("a Worker ends while a group is connecting, or idle, or has failed") {
  std::shared_ptr<Journal> connecting;
  std::shared_ptr<Journal> idle;
  std::shared_ptr<Journal> failed;
  std::thread([&] {
    FakeWorker worker;
    ::close(c10d_wake_fd(create(worker, {"connect=hang"})));
    connecting = Journal::latest();
    c10d_group* group = create(worker, {"model=blocking"});
    idle = Journal::latest();
    await_open(group);
    ::close(c10d_wake_fd(group));
    group = create(worker, {"model=polling"});
    failed = Journal::latest();
    await_open(group);
    ::close(c10d_wake_fd(group));
    c10d_abort(group, C10D_ERR_NETWORK, "a peer is lost");
    worker.end();
  }).join();
  CHECK(connecting->read().abort_text == "its Worker has ended");
  CHECK(idle->read().closes == 1);
  CHECK(idle->read().aborts == 0);
  CHECK(failed->read().abort_text == "a peer is lost");
}

TEST_CASE("the end waits for a library that keeps buffers") {
  std::shared_ptr<Journal> journal;
  const Stopwatch watch;
  std::thread opener;
  std::thread([&] {
    auto memory = std::make_unique<uint64_t>();
    FakeWorker worker;
    start_stubborn(worker, {"model=polling"}, memory.get());
    journal = Journal::latest();
    opener = std::thread([journal] {
      std::this_thread::sleep_for(std::chrono::milliseconds(1'300));
      journal->open_all();
    });
    worker.end();
  }).join();
  CHECK(watch.ms() > 1'200);
  CHECK(journal->read().ended.size() == 1);
  opener.join();
}

TEST_CASE("copies: the end does not wait for a library that keeps buffers, which touches no memory of the Worker") {
  for (const char* model : kModels) {
    CAPTURE(std::string(model));
    std::shared_ptr<Journal> journal;
    const Stopwatch watch;
    c10d_group* group = nullptr;
    std::thread([&] {
      auto memory = std::make_unique<uint64_t>();
      FakeWorker worker;
      group = start_stubborn(worker, {model, "keeps=1", "thread=worker"}, memory.get());
      journal = Journal::latest();
      worker.end();
    }).join();
    CHECK(watch.ms() < 1'000 + 100 * kSlack);
    // It writes its result now, to a copy.
    journal->open_all();
    CHECK(journal->await([](const auto& record) { return record.ended.size() == 1; }));
    CHECK(c10d_close(group, 20'000) == 0);
  }
}

TEST_CASE("copies: results arrive, by wait and by event, and only on the host's thread") {
  for (const char* model : {"model=blocking", "model=instant", "model=polling", "model=eventfd"}) {
    CAPTURE(std::string(model));
    Host host({model, "keeps=1", "thread=worker"});
    const int64_t waited = host.submit({});
    CHECK(host.wait(waited) == C10D_OK);
    CHECK(host.result(waited) != 0);
    const int64_t drained = host.submit({});
    host.kick();
    CHECK(host.journal().await([](const auto& record) { return record.ended.size() == 2; }));
    CHECK(host.result(drained) == 0);
    CHECK(host.completion(drained).status == C10D_OK);
    CHECK(host.result(drained) != 0);
  }
}

TEST_CASE("copies: once the group has failed no result is written, since its memory may be gone") {
  for (const bool by_wait : {true, false}) {
    CAPTURE(by_wait);
    Host host({"model=polling", "keeps=1", "thread=worker"});
    const int64_t id = host.submit({});
    host.kick();
    CHECK(host.journal().await([](const auto& record) { return record.ended.size() == 1; }));
    c10d_abort(host.group(), C10D_ERR_ABORTED, "a buffer was detached");
    CHECK((by_wait ? host.wait(id) : host.completion(id).status) == C10D_ERR_ABORTED);
    CHECK(host.result(id) == 0);
  }
}

TEST_CASE("copies: a stuck op is not pinned") {
  Host host({"model=polling", "keeps=1", "thread=worker"});
  const int64_t id = host.submit(script(Outcome::stubborn), 100);
  host.kick();
  const auto event = host.completion(id);
  CHECK(event.status == C10D_ERR_OP_TIMEOUT);
  CHECK(event.flags == 0);
  CHECK(host.stats().pinned == 0);
  host.journal().open_all();
  CHECK(host.journal().await([](const auto& record) { return record.ended.size() == 1; }));
  CHECK(host.result(id) == 0);
  CHECK(host.quiet(5));
}

TEST_CASE("Workers do not disturb each other, nor a group of another thread") {
  Host host({"model=blocking"});
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; i++) {
    threads.emplace_back([] {
      for (int round = 0; round < 20; round++) {
        auto memory = std::make_unique<uint64_t>();
        FakeWorker worker;
        c10d_group* group = create(worker, {"model=polling"});
        while (c10d_group_state(group) == C10D_CONNECTING) std::this_thread::yield();
        ::close(c10d_wake_fd(group));
        submit(group, script(round % 2 == 0 ? Outcome::hang : Outcome::success), memory.get());
        c10d_kick(group);
        worker.end();
      }
    });
  }
  for (int i = 0; i < 200; i++) CHECK(host.wait(host.submit({})) == C10D_OK);
  for (auto& thread : threads) thread.join();
  CHECK(host.wait(host.submit({})) == C10D_OK);
}
