#include "own_program.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <thread>

extern char** environ;

namespace c10d::test {

std::string run_own_program(const std::string& cases, const std::vector<std::string>& variables, int seconds) {
  const std::string filter = "-tc=" + cases;
  std::vector<char*> arguments = {const_cast<char*>("test"), const_cast<char*>(filter.c_str()),
                                  const_cast<char*>("--abort-after=1"), const_cast<char*>("--no-skip"), nullptr};
  std::vector<char*> environment;
  for (const auto& variable : variables) environment.push_back(const_cast<char*>(variable.c_str()));
  for (char** own = environ; *own != nullptr; own++) environment.push_back(*own);
  environment.push_back(nullptr);
  const pid_t child = ::fork();
  if (child < 0) return "fork has failed";
  if (child == 0) {
    const int nowhere = ::open("/dev/null", O_WRONLY);
    ::dup2(nowhere, STDOUT_FILENO);
    ::dup2(nowhere, STDERR_FILENO);
    ::execve("/proc/self/exe", arguments.data(), environment.data());
    ::_exit(127);
  }
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
  int status = 0;
  while (::waitpid(child, &status, WNOHANG) == 0) {
    if (std::chrono::steady_clock::now() >= deadline) {
      ::kill(child, SIGKILL);
      ::waitpid(child, &status, 0);
      return "it hangs";
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  if (WIFSIGNALED(status)) return "signal " + std::to_string(WTERMSIG(status));
  return WEXITSTATUS(status) == 0 ? "" : "exit status " + std::to_string(WEXITSTATUS(status));
}

}  // namespace c10d::test
