// The exchange of connect() through a folder that all ranks can access.
#pragma once

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "engine/transport.h"

namespace c10d::bench {

class FileExchange final : public Exchange {
 public:
  explicit FileExchange(std::filesystem::path folder) : folder_(std::move(folder)) {}

  void set(const std::string& key, const void* value, size_t bytes) override {
    const auto path = path_of(key);
    const auto unfinished = path.string() + ".unfinished";
    std::ofstream(unfinished, std::ios::binary)
        .write(static_cast<const char*>(value), static_cast<std::streamsize>(bytes));
    std::filesystem::rename(unfinished, path);
  }

  uint64_t request(const std::string& key) override {
    requests_.push_back(key);
    return requests_.size();
  }

  std::vector<char> await(uint64_t request, Clock::time_point deadline) override {
    const std::string& key = requests_[request - 1];
    const auto path = path_of(key);
    while (!std::filesystem::exists(path)) {
      if (Clock::now() >= deadline) throw Failure(C10D_ERR_OP_TIMEOUT, "no value for key " + key);
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }

  void log(const std::string& text) override { std::fprintf(stderr, "%s\n", text.c_str()); }
  void lost(const Failure& cause) override { log(cause.text()); }

 private:
  std::filesystem::path path_of(std::string key) const {
    for (char& c : key) {
      if (c == '/') c = '-';
    }
    return folder_ / key;
  }

  const std::filesystem::path folder_;
  std::vector<std::string> requests_;
};

}  // namespace c10d::bench
