#include "connected_ranks.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <stdexcept>
#include <utility>

namespace c10d::test {

namespace {

struct SocketPair {
  Fd one;
  Fd other;
};

SocketPair connect_loopback() {
  const Fd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  auto* const name = reinterpret_cast<sockaddr*>(&address);
  socklen_t size = sizeof address;
  if (::bind(listener.get(), name, size) != 0 || ::listen(listener.get(), 1) != 0 ||
      ::getsockname(listener.get(), name, &size) != 0) {
    throw std::runtime_error("no listener");
  }
  SocketPair made{Fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)), Fd()};
  if (::connect(made.one.get(), name, size) != 0) throw std::runtime_error("no connection");
  made.other = Fd(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  return made;
}

}  // namespace

Sockets connect_sockets(int size) {
  Sockets sockets(static_cast<size_t>(size));
  for (auto& own : sockets) own.resize(static_cast<size_t>(size));
  for (size_t a = 0; a < sockets.size(); a++) {
    for (size_t b = a + 1; b < sockets.size(); b++) {
      auto made = connect_loopback();
      sockets[a][b] = std::move(made.one);
      sockets[b][a] = std::move(made.other);
    }
  }
  return sockets;
}

std::vector<std::unique_ptr<Connections>> connect_ranks(Sockets sockets) {
  std::vector<std::unique_ptr<Connections>> ranks;
  for (auto& own : sockets)
    ranks.push_back(std::make_unique<Connections>(static_cast<int>(ranks.size()), std::move(own)));
  return ranks;
}

c10d_buffer buffer_of(Values& values, size_t begin, size_t count) {
  return {reinterpret_cast<uint64_t>(values.data() + begin), count * sizeof(int32_t)};
}

c10d_buffer buffer_of(Values& values) { return buffer_of(values, 0, values.size()); }

Op make_op(uint32_t opcode, std::vector<c10d_buffer> inputs, std::vector<c10d_buffer> outputs, int root) {
  Op op;
  op.request.opcode = opcode;
  op.request.dtype = C10D_INT32;
  op.request.reduce_op = C10D_SUM;
  op.request.peer = root;
  op.inputs = std::move(inputs);
  op.outputs = std::move(outputs);
  return op;
}

void run_in_turn(Op& op, uint32_t turn, Connections& connections) {
  op.number = turn;
  run_direct(op, turn, connections);
}

}  // namespace c10d::test
