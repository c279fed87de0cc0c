// gloo_bench RANK SIZE FOLDER: a rank that all-reduces without Bun, over the connections and the reduction of the gloo
// shim. It takes jobs from its standard input and answers each with a line of JSON; bench/harness/contender.ts speaks
// to it, and bench/ranks/bun-rank.ts does the same in TypeScript.
#include <gloo/allreduce.h>
#include <gloo/transport/tcp/device.h>

#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "file_exchange.h"
#include "mesh.h"
#include "reduction.h"

namespace c10d::bench {
namespace {

using gloo_shim::Mesh;

struct Job {
  size_t bytes;
  int warm_up;
  int iterations;
  /// Number of buffers that take turns, so that not all of the data is always in the cache.
  size_t buffers;
};

class Rank {
 public:
  Rank(int rank, int size, const std::string& folder) : rank_(rank), size_(size) {
    const auto deadline = Clock::now() + std::chrono::seconds(30);
    const Config config{rank, size, 0, deadline, Options("", 0)};
    gloo_shim::tcp::attr attributes;
    attributes.hostname = "127.0.0.1";
    auto device = std::dynamic_pointer_cast<gloo_shim::tcp::Device>(gloo_shim::tcp::CreateDevice(attributes));
    FileExchange exchange(folder);
    auto peers = gloo_shim::connect_all(config, {attributes.hostname, 0}, exchange, cancellation_, "bench");
    mesh_ = std::make_shared<Mesh>(rank, size, std::move(device), std::move(peers), losses_, doorbell_);
  }

  /// Microseconds of each iteration.
  std::vector<double> run(const Job& job) {
    std::vector<std::vector<float>> buffers(job.buffers, std::vector<float>(job.bytes / sizeof(float)));
    std::vector<double> micros;
    for (int i = -job.warm_up; i < job.iterations; i++) {
      auto& buffer = buffers[static_cast<size_t>(i + job.warm_up) % buffers.size()];
      const auto mark = static_cast<float>((i + job.warm_up) % 1000);
      buffer.front() = buffer.back() = mark + static_cast<float>(rank_);
      const auto begin = Clock::now();
      all_reduce(buffer);
      const auto end = Clock::now();
      const float expected = mark * static_cast<float>(size_) + static_cast<float>(size_ * (size_ - 1) / 2);
      if (buffer.front() != expected || buffer.back() != expected) throw std::runtime_error("wrong sum");
      if (i >= 0) micros.push_back(std::chrono::duration<double, std::micro>(end - begin).count());
    }
    return micros;
  }

 private:
  void all_reduce(std::vector<float>& buffer) {
    gloo::AllreduceOptions options(mesh_);
    options.setOutput(buffer.data(), buffer.size());
    options.setReduceFunction(sum_);
    options.setTag(tag_++);
    gloo::allreduce(options);
  }

  const int rank_;
  const int size_;
  const gloo_shim::Reduction sum_ = gloo_shim::find_reduction(C10D_FLOAT32, C10D_SUM);
  gloo_shim::Cancellation cancellation_;
  gloo_shim::LossRecord losses_;
  gloo_shim::Doorbell doorbell_;
  std::shared_ptr<Mesh> mesh_;
  uint32_t tag_ = 0;
};

void serve(Rank& rank) {
  std::cout << "{\"ready\":true}" << std::endl;
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream words(line);
    std::string mode;
    Job job{};
    if (!(words >> mode >> job.bytes >> job.warm_up >> job.iterations >> job.buffers)) {
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

int main(int count, char** words) {
  if (count != 4) {
    std::fprintf(stderr, "usage: gloo_bench RANK SIZE FOLDER\n");
    return 2;
  }
  try {
    c10d::bench::Rank rank(std::atoi(words[1]), std::atoi(words[2]), words[3]);
    c10d::bench::serve(rank);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "gloo_bench: %s\n", error.what());
    return 1;
  }
}
