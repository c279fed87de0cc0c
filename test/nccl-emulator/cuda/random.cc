#include "random.h"

#include <map>
#include <mutex>
#include <string>
#include <thread>

#include "config.h"
#include "cuda_emulator.h"

namespace cuemu {

std::chrono::microseconds delay_of(uint64_t random) {
  const auto longest = static_cast<uint64_t>(config().longest_delay.count());
  if (config().null_mode || random % 4 == 0) return std::chrono::microseconds(0);
  return std::chrono::microseconds((random >> 2) % (longest + 1));
}

}  // namespace cuemu

extern "C" uint64_t cuemu_random(const char* name) {
  static std::mutex mutex;
  // Never destroyed: threads of streams run until the process ends.
  static auto& turns = *new std::map<std::string, uint64_t>();
  uint64_t turn = 0;
  {
    const std::lock_guard<std::mutex> lock(mutex);
    turn = turns[name]++;
  }
  return cuemu::mix(cuemu::mix(cuemu::config().seed ^ cuemu::hash_text(name)) + turn);
}

extern "C" void cuemu_nap(const char* name) {
  const auto delay = cuemu::delay_of(cuemu_random(name));
  if (delay.count() > 0) std::this_thread::sleep_for(delay);
}
