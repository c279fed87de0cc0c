// ucc_bench RANK SIZE FOLDER: a rank without Bun, which calls libucc itself. It reads jobs from standard input and
// answers each with a line of JSON; bench/ucc.ts drives it.
#include <ucc/api/ucc.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "file_exchange.h"
#include "library.h"
#include "rendezvous.h"

namespace c10d::bench {
namespace {

using ucc_shim::library;
using ucc_shim::require;

struct Job {
  std::string op;
  size_t bytes;
  int warm_up;
  int iterations;
  /// Number of buffers that are used in rotation, so that not all of the data is always in the cache.
  size_t buffers;
};

/// A team as a program with one thread and no other use of UCC would make it.
class Rank {
 public:
  Rank(int rank, int size, const std::string& folder)
      : size_(size),
        config_{rank, size, Device{}, Clock::now() + std::chrono::seconds(30), Options("", 0)},
        exchange_(folder),
        rendezvous_(config_, exchange_, nullptr) {
    ucc_lib_params_t params{};
    params.mask = UCC_LIB_PARAM_FIELD_THREAD_MODE;
    params.thread_mode = std::getenv("UCC_BENCH_THREADS") != nullptr ? UCC_THREAD_MULTIPLE : UCC_THREAD_SINGLE;
    ucc_lib_config_h lib_config = nullptr;
    require(library().lib_config_read(nullptr, nullptr, &lib_config), "lib_config_read");
    require(library().init_version(UCC_API_MAJOR, UCC_API_MINOR, &params, lib_config, &lib_), "init");
    library().lib_config_release(lib_config);
    ucc_context_config_h context_config = nullptr;
    require(library().context_config_read(lib_, nullptr, &context_config), "context_config_read");
    ucc_context_params_t context{};
    context.mask = UCC_CONTEXT_PARAM_FIELD_OOB;
    context.oob = rendezvous_.callbacks();
    require(library().context_create(lib_, &context, context_config, &context_), "context_create");
    library().context_config_release(context_config);
    ucc_team_params_t team{};
    team.mask = UCC_TEAM_PARAM_FIELD_OOB | UCC_TEAM_PARAM_FIELD_EP | UCC_TEAM_PARAM_FIELD_EP_RANGE;
    team.oob = rendezvous_.callbacks();
    team.ep = static_cast<uint64_t>(rank);
    team.ep_range = UCC_COLLECTIVE_EP_RANGE_CONTIG;
    require(library().team_create_post(&context_, 1, &team, &team_), "team_create_post");
    ucc_status_t status = UCC_INPROGRESS;
    while ((status = library().team_create_test(team_)) == UCC_INPROGRESS) library().context_progress(context_);
    require(status, "team_create_test");
  }

  /// Microseconds of each iteration.
  std::vector<double> run(const Job& job) {
    const size_t length = std::max<size_t>(job.bytes / sizeof(float), 1);
    std::vector<std::vector<float>> inputs(job.buffers, std::vector<float>(length));
    std::vector<std::vector<float>> outputs(job.buffers, std::vector<float>(length));
    const bool sums = job.op == "all-reduce";
    std::vector<double> micros;
    for (int i = -job.warm_up; i < job.iterations; i++) {
      const auto turn = static_cast<size_t>(i + job.warm_up);
      auto& input = inputs[turn % job.buffers];
      const auto mark = static_cast<float>(turn % 1000);
      if (sums) input.front() = input.back() = mark + static_cast<float>(config_.rank);
      const auto begin = Clock::now();
      carry_out(job.op, input, outputs[turn % job.buffers]);
      const auto end = Clock::now();
      const float expected = mark * static_cast<float>(size_) + static_cast<float>(size_ * (size_ - 1) / 2);
      if (sums && (input.front() != expected || input.back() != expected)) throw std::runtime_error("wrong sum");
      if (i >= 0) micros.push_back(std::chrono::duration<double, std::micro>(end - begin).count());
    }
    return micros;
  }

 private:
  void carry_out(const std::string& op, std::vector<float>& input, std::vector<float>& output) {
    ucc_coll_args_t args{};
    args.src.info = {input.data(), input.size(), UCC_DT_FLOAT32, UCC_MEMORY_TYPE_HOST};
    if (op == "all-reduce") {
      args.mask = UCC_COLL_ARGS_FIELD_FLAGS;
      args.flags = UCC_COLL_ARGS_FLAG_IN_PLACE;
      args.coll_type = UCC_COLL_TYPE_ALLREDUCE;
      args.dst.info = args.src.info;
      args.op = UCC_OP_SUM;
    } else if (op == "broadcast") {
      args.coll_type = UCC_COLL_TYPE_BCAST;
    } else if (op == "all-to-all") {
      args.coll_type = UCC_COLL_TYPE_ALLTOALL;
      args.dst.info = {output.data(), output.size(), UCC_DT_FLOAT32, UCC_MEMORY_TYPE_HOST};
    } else {
      throw std::runtime_error("unsupported op: " + op);
    }
    ucc_coll_req_h request = nullptr;
    require(library().collective_init(&args, &request, team_), "collective_init");
    require(library().collective_post(request), "collective_post");
    while (ucc_collective_test(request) == UCC_INPROGRESS) library().context_progress(context_);
    require(ucc_collective_test(request), "collective_test");
    library().collective_finalize(request);
  }

  const int size_;
  const Config config_;
  FileExchange exchange_;
  ucc_shim::Rendezvous rendezvous_;
  ucc_lib_h lib_ = nullptr;
  ucc_context_h context_ = nullptr;
  ucc_team_h team_ = nullptr;
};

void serve(Rank& rank) {
  std::cout << "{\"ready\":true}" << std::endl;
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream fields(line);
    std::string mode;
    Job job{};
    if (!(fields >> mode >> job.op >> job.bytes >> job.warm_up >> job.iterations >> job.buffers)) {
      throw std::runtime_error("not a job: " + line);
    }
    std::ostringstream answer;
    const char* separator = "";
    for (const double each : rank.run(job)) answer << std::exchange(separator, ",") << each;
    std::cout << "{\"micros\":[" << answer.str() << "]}" << std::endl;
  }
}

}  // namespace
}  // namespace c10d::bench

int main(int count, char** arguments) {
  if (count != 4) {
    std::fprintf(stderr, "usage: ucc_bench RANK SIZE FOLDER\n");
    return 2;
  }
  try {
    c10d::bench::Rank rank(std::atoi(arguments[1]), std::atoi(arguments[2]), arguments[3]);
    c10d::bench::serve(rank);
  } catch (const c10d::Failure& error) {
    std::fprintf(stderr, "ucc_bench: %s\n", error.text().c_str());
    return 1;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "ucc_bench: %s\n", error.what());
    return 1;
  }
}
