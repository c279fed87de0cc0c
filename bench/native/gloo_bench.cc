// gloo_bench RANK SIZE FOLDER: a rank without Bun, over the connections of the gloo shim. It calls what the shim calls,
// or, for `stock` jobs, Gloo's all-reduce as PyTorch calls it. It reads jobs from its standard input and answers each
// with a line of JSON. bench/harness/contender.ts drives it, and bench/ranks/bun-rank.ts does the same in TypeScript.
#include <gloo/allreduce.h>
#include <gloo/transport/tcp/device.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "context/gloo_context.h"
#include "file_exchange.h"
#include "mesh/connections.h"
#include "mesh/direct.h"
#include "reduction/reduction.h"

namespace c10d::bench {
namespace {

using gloo_shim::GlooContext;

struct Job {
  bool stock;
  std::string op;
  size_t bytes;
  int warm_up;
  int iterations;
  /// Number of buffers that are used in rotation, so that not all of the data is always in the cache.
  size_t buffers;
};

class Rank {
 public:
  Rank(int rank, int size, const std::string& folder) : rank_(rank), size_(size) {
    const auto deadline = Clock::now() + std::chrono::seconds(30);
    const Config config{rank, size, Device{}, deadline, Options("", 0)};
    gloo_shim::tcp::attr attributes;
    attributes.hostname = "127.0.0.1";
    auto device = std::dynamic_pointer_cast<gloo_shim::tcp::Device>(gloo_shim::tcp::CreateDevice(attributes));
    FileExchange exchange(folder);
    gloo_shim::PeerSockets made;
    gloo_shim::connect_all(config, {attributes.hostname, 0}, exchange, cancellation_, "0", made);
    if (made.direct.empty()) throw std::runtime_error("no direct connections between the ranks");
    context_ = std::make_shared<GlooContext>(rank, size, std::move(device), std::move(made.peers),
                                             std::vector<bool>(size), losses_, doorbell_);
    connections_ = std::make_unique<Connections>(rank, std::move(made.direct));
  }

  /// Microseconds of each iteration.
  std::vector<double> run(const Job& job) {
    const auto n = static_cast<size_t>(size_);
    const bool divided = job.op == "all-gather" || job.op == "reduce-scatter" || job.op == "all-to-all";
    const size_t length = std::max(job.bytes / sizeof(float), divided ? n : 1);
    const size_t part = job.op == "all-to-all" ? length : std::max<size_t>(length / n, 1);
    std::vector<std::vector<float>> wholes(job.buffers, std::vector<float>(length));
    std::vector<std::vector<float>> parts(job.buffers, std::vector<float>(part));
    const bool sums = job.op == "all-reduce";
    std::vector<double> micros;
    for (int i = -job.warm_up; i < job.iterations; i++) {
      const auto turn = static_cast<size_t>(i + job.warm_up);
      auto& whole = wholes[turn % job.buffers];
      const auto mark = static_cast<float>(turn % 1000);
      if (sums) whole.front() = whole.back() = mark + static_cast<float>(rank_);
      const auto begin = Clock::now();
      if (job.stock) {
        stock_all_reduce(whole);
      } else {
        carry_out(job.op, whole, parts[turn % job.buffers]);
      }
      const auto end = Clock::now();
      const float expected = mark * static_cast<float>(size_) + static_cast<float>(size_ * (size_ - 1) / 2);
      if (sums && (whole.front() != expected || whole.back() != expected))
        throw std::runtime_error("wrong sum in iteration " + std::to_string(i) + ": " + std::to_string(whole.front()) +
                                 " for " + std::to_string(expected));
      if (i >= 0) micros.push_back(std::chrono::duration<double, std::micro>(end - begin).count());
    }
    return micros;
  }

 private:
  void stock_all_reduce(std::vector<float>& buffer) {
    gloo::AllreduceOptions options(context_);
    options.setOutput(buffer.data(), buffer.size());
    options.setReduceFunction(find_reduction(C10D_FLOAT32, C10D_SUM));
    options.setTag(tag_++);
    gloo::allreduce(options);
  }

  void carry_out(const std::string& name, std::vector<float>& whole, std::vector<float>& part) {
    op_.request.dtype = C10D_FLOAT32;
    op_.request.reduce_op = C10D_SUM;
    op_.request.peer = 0;
    const c10d_buffer all{reinterpret_cast<uint64_t>(whole.data()), whole.size() * sizeof(float)};
    const c10d_buffer some{reinterpret_cast<uint64_t>(part.data()), part.size() * sizeof(float)};
    const auto as = [&](uint32_t opcode, std::vector<c10d_buffer> inputs, std::vector<c10d_buffer> outputs) {
      op_.request.opcode = opcode;
      op_.inputs = std::move(inputs);
      op_.outputs = std::move(outputs);
    };
    if (name == "all-reduce") {
      as(C10D_OP_ALLREDUCE, {}, {all});
    } else if (name == "broadcast") {
      as(C10D_OP_BROADCAST, {}, {all});
    } else if (name == "all-gather") {
      as(C10D_OP_ALLGATHER_BASE, {some}, {all});
    } else if (name == "reduce-scatter") {
      as(C10D_OP_REDUCE_SCATTER_BASE, {all}, {some});
    } else if (name == "all-to-all") {
      as(C10D_OP_ALLTOALL_BASE, {all}, {some});
    } else if (name == "barrier") {
      as(C10D_OP_BARRIER, {}, {});
    } else {
      throw std::runtime_error("unsupported op: " + name);
    }
    run_direct(op_, ++turn_, *connections_);
  }

  const int rank_;
  const int size_;
  c10d::Cancellation cancellation_;
  gloo_shim::LossRecord losses_;
  gloo_shim::Doorbell doorbell_;
  std::shared_ptr<GlooContext> context_;
  std::unique_ptr<Connections> connections_;
  uint32_t tag_ = 0;
  uint32_t turn_ = 0;
  Op op_;
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
    job.stock = mode == "stock";
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
    std::fprintf(stderr, "usage: gloo_bench RANK SIZE FOLDER\n");
    return 2;
  }
  try {
    c10d::bench::Rank rank(std::atoi(arguments[1]), std::atoi(arguments[2]), arguments[3]);
    c10d::bench::serve(rank);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "gloo_bench: %s\n", error.what());
    return 1;
  }
}
