// Group calls of a thread. Each call of the API is one too, of a single op.
#pragma once

#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "communicator.h"
#include "op.h"

namespace nccl_emulator {

class Group {
 public:
  using Job = std::function<ncclResult_t()>;

  static Group& of_thread();
  ~Group();

  void start() { depth_++; }
  /// Ends the innermost group; if it is the outermost one, begins what was called in it. It is refused if a call was.
  ncclResult_t end();

  /// The same without beginning anything.
  ncclResult_t simulate_end();

  bool open() const { return depth_ > 0; }
  /// Whether ops of the communicator wait for the end of the group.
  bool holds(const Communicator& communicator) const;

  void add(const std::shared_ptr<Communicator>& communicator, const Op& op);
  /// What may take long: it runs in the background if the communicator does not block, whose state it changes.
  void add(const std::shared_ptr<Communicator>& communicator, Job job);
  /// The group fails with this result.
  void fail(ncclResult_t result);

  /// One call as a group: what `body` adds begins now, or at the end of the group around it.
  template <class Body>
  ncclResult_t call(Body&& body) {
    start();
    auto result = body();
    if (result != ncclSuccess) fail(result);
    auto end_result = end();
    return result != ncclSuccess ? result : end_result;
  }

 private:
  struct Work {
    std::vector<std::pair<std::shared_ptr<Communicator>, std::vector<Op>>> launches;
    std::vector<std::pair<std::shared_ptr<Communicator>, Job>> jobs;

    std::vector<std::shared_ptr<Communicator>> communicators() const;
    ncclResult_t run();
  };

  ncclResult_t begin(Work work, bool blocking);
  static bool deferred(const Work& work);
  void note(const Communicator& communicator);

  int depth_ = 0;
  int blocking_ = -1;
  ncclResult_t error_ = ncclSuccess;
  Work work_;
};

}  // namespace nccl_emulator
