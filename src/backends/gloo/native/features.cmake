# Which generation of libgloo this is, found by compiling against its headers: GLOO_VERSION is 0.5.0 in all of them. The code
# sees the answers through gloo_version.h only.
include(CheckCXXSourceCompiles)

function(gloo_compiles variable source)
  set(CMAKE_REQUIRED_QUIET ON)
  set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
  set(CMAKE_REQUIRED_INCLUDES ${CMAKE_CURRENT_SOURCE_DIR}/compat ${GLOO_INCLUDE_DIR})
  check_cxx_source_compiles("
    #include <gloo/transport/tcp/context.h>
    #include <gloo/transport/tcp/device.h>
    #include <gloo/transport/tcp/pair.h>
    namespace tcp = gloo::transport::tcp;
    ${source}" ${variable})
  set(${variable} ${${variable}} PARENT_SCOPE)
endfunction()

gloo_compiles(C10D_GLOO_HANDLER_TAKES_EVENTS "struct H : tcp::Handler { void handleEvents(int) override; };")
gloo_compiles(C10D_GLOO_HANDLER_TAKES_LOOP "struct H : tcp::Handler { void handleEvents(tcp::Loop&, int) override; };")
gloo_compiles(C10D_GLOO_PAIR_LISTENS "struct P : tcp::Pair { static constexpr auto state_of_old = LISTENING; };")
gloo_compiles(C10D_GLOO_DEVICE_LISTENS "
  #include <gloo/transport/tcp/listener.h>
  struct D : tcp::Device { using tcp::Device::nextAddress; };")
# What pair.cc does with a connection. It uses nothing else of the library's internals.
gloo_compiles(C10D_GLOO_PAIR_CAN_ADOPT "
  struct P : tcp::Pair {
    void adopt(int fd) {
      self_ = tcp::Address::fromSockName(fd);
      fd_ = fd;
      device_->registerDescriptor(fd_, 0, this);
      changeState(CONNECTED);
    }
    void send(gloo::transport::UnboundBuffer*, uint64_t, size_t, size_t) override;
    bool read() override;
    void changeState(state) noexcept override;
  };")

if(NOT C10D_GLOO_PAIR_CAN_ADOPT OR C10D_GLOO_HANDLER_TAKES_EVENTS STREQUAL C10D_GLOO_HANDLER_TAKES_LOOP
   OR C10D_GLOO_PAIR_LISTENS STREQUAL C10D_GLOO_DEVICE_LISTENS)
  message(FATAL_ERROR "the libgloo of ${GLOO_INCLUDE_DIR} is not of a generation that the shim knows (2022, 2023, 2025): "
                      "see docs/native-libraries.md, and CMakeConfigureLog.yaml or CMakeError.log in CMakeFiles for the compiler's output")
endif()

if(C10D_GLOO_HANDLER_TAKES_LOOP)
  set(C10D_GLOO_GENERATION 2025)
elseif(C10D_GLOO_DEVICE_LISTENS)
  set(C10D_GLOO_GENERATION 2023)
else()
  set(C10D_GLOO_GENERATION 2022)
endif()
message(STATUS "libgloo of ${C10D_GLOO_GENERATION}: ${GLOO_LIBRARY}")

set(C10D_GLOO_DEFINITIONS C10D_GLOO_GENERATION=${C10D_GLOO_GENERATION}
  C10D_GLOO_HANDLER_TAKES_LOOP=$<BOOL:${C10D_GLOO_HANDLER_TAKES_LOOP}>
  C10D_GLOO_PAIR_LISTENS=$<BOOL:${C10D_GLOO_PAIR_LISTENS}>)
