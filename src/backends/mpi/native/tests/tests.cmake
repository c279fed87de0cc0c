# add_mpi_test(<implementation> <launcher> <ranks> <threads>)
function(c10d_add_mpi_test implementation launcher ranks threads)
  set(name mpi_${implementation}_${ranks}_${threads})
  add_test(NAME ${name} COMMAND ${launcher} ${ARGN} -n ${ranks} $<TARGET_FILE:mpi_shim_test_${implementation}> ${threads})
  set(here ${CMAKE_CURRENT_SOURCE_DIR}/tests)
  # The libraries were not built with sanitizers, which cannot see how their threads synchronize. Groups with ops that
  # MPI cannot cancel keep their threads. UCX hooks madvise(), for which new threads are not yet ready under the thread
  # sanitizer.
  set_tests_properties(${name} PROPERTIES
    TIMEOUT 200
    LABELS mpi
    RESOURCE_LOCK mpi
    ENVIRONMENT "UCX_MEM_MMAP_HOOK_MODE=none;OMPI_ALLOW_RUN_AS_ROOT=1;OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1;TSAN_OPTIONS=halt_on_error=1 second_deadlock_stack=1 ignore_noninstrumented_modules=1 report_thread_leaks=0;ASAN_OPTIONS=detect_leaks=1 strict_string_checks=1;LSAN_OPTIONS=suppressions=${here}/leaks.supp print_suppressions=0")
endfunction()

foreach(implementation openmpi mpich)
  if(NOT TARGET c10d_mpi_${implementation})
    continue()
  endif()
  add_executable(mpi_shim_test_${implementation} tests/shim_test.cc)
  target_include_directories(mpi_shim_test_${implementation} PRIVATE ${CMAKE_CURRENT_SOURCE_DIR} ${CMAKE_SOURCE_DIR})
  target_compile_definitions(mpi_shim_test_${implementation} PRIVATE OMPI_SKIP_MPICXX MPICH_SKIP_MPICXX)
  target_link_libraries(mpi_shim_test_${implementation} PRIVATE test_code c10d_mpi_${implementation} PkgConfig::${implementation} Threads::Threads)
  add_dependencies(native_tests mpi_shim_test_${implementation})
  find_program(C10D_MPIRUN_${implementation} NAMES mpirun.${implementation} mpirun)
  set(launcher ${C10D_MPIRUN_${implementation}})
  if(NOT launcher)
    message(STATUS "mpirun.${implementation} not found: the tests of its shim are not run")
    continue()
  endif()
  set(flags "")
  if(implementation STREQUAL openmpi)
    set(flags --oversubscribe --bind-to none)
  endif()
  c10d_add_mpi_test(${implementation} ${launcher} 2 multiple ${flags})
  c10d_add_mpi_test(${implementation} ${launcher} 3 multiple ${flags})
  c10d_add_mpi_test(${implementation} ${launcher} 2 single ${flags})
endforeach()
