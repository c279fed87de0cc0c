#include "injected_faults.h"

#include <cstdlib>
#include <sstream>

#include "report.h"

namespace nccl_emulator {
namespace {

bool number_after(const std::string& item, const char* prefix, uint64_t* value) {
  std::string start = prefix;
  if (item.compare(0, start.size(), start) != 0) return false;
  auto digits = item.substr(start.size());
  if (digits.empty() || digits.find_first_not_of("0123456789") != std::string::npos || digits.size() > 9) return false;
  *value = std::stoull(digits);
  return true;
}

}  // namespace

InjectedFaults InjectedFaults::parse(const std::string& text) {
  InjectedFaults faults;
  std::istringstream items(text);
  for (std::string item; std::getline(items, item, ',');) {
    uint64_t number = 0;
    if (item.empty()) continue;
    if (number_after(item, "rank=", &number))
      faults.rank = static_cast<int>(number);
    else if (number_after(item, "async-error@", &number))
      faults.async_error = number;
    else if (number_after(item, "hang@", &number))
      faults.hang = number;
    else if (number_after(item, "internal@", &number))
      faults.internal = number;
    else if (number_after(item, "slow-init=", &number))
      faults.slow_init_ms = static_cast<uint32_t>(number);
    else if (item == "init-error")
      faults.init_error = true;
    else if (item == "mismatch-report")
      faults.report_mismatch = true;
    else if (item == "abort-tells-peers")
      faults.tell_of_abort = true;
    else if (item == "refuse-memory")
      faults.refuse_memory = true;
    else if (item == "eager")
      faults.eager = true;
    else
      faults.unknown = item;
  }
  return faults;
}

const InjectedFaults& InjectedFaults::of_process() {
  static const auto* faults = [] {
    const char* text = getenv("NCCL_EMULATOR_FAULTS");
    auto* parsed = new InjectedFaults(parse(text ? text : ""));
    if (!parsed->unknown.empty())
      misuse(ncclInvalidArgument, "NCCL_EMULATOR_FAULTS: '%s' is not a fault of the emulator", parsed->unknown.c_str());
    return parsed;
  }();
  return *faults;
}

}  // namespace nccl_emulator
