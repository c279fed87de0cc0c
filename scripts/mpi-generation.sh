#!/bin/sh
# mpi-generation.sh SUITE BUN [arguments of bun test…]: builds the mpi shims and runs their tests with Open MPI and
# MPICH of another Debian suite, in a root folder of its packages: its compiler, libraries and mpirun, with the Bun and
# kernel of this machine. Needs root, or a kernel that allows users to create namespaces.
set -eu

cd "$(dirname "$0")/.."
if [ "${1:-}" = --inside ]; then
  # In our own namespaces: mounts made here end with them.
  shift
  root=$1 bun=$2 suite=$3
  shift 3
  for folder in dev proc sys; do
    mkdir -p "$root/$folder"
    mount --rbind "/$folder" "$root/$folder"
  done
  mkdir -p "$root/tmp"
  mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
  mkdir -p "$root$PWD"
  mount --bind "$PWD" "$root$PWD"
  for file in etc/passwd etc/group etc/hosts usr/local/bin/bun; do
    mkdir -p "$root/$(dirname $file)"
    : >>"$root/$file"
  done
  for file in passwd group hosts; do mount --bind "/etc/$file" "$root/etc/$file"; done
  mount --bind "$bun" "$root/usr/local/bin/bun"
  exec chroot "$root" /bin/sh "$PWD/scripts/mpi-generation.sh" --in-root "$PWD" "$suite" "$@"
fi

if [ "${1:-}" = --in-root ]; then
  cd "$2"
  build=$2/.tools/roots/$3-mpi-build
  shift 3
  PATH=/usr/local/bin:/usr/bin:/usr/sbin
  export PATH
  log=$build.log
  if ! { cmake -S native -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DC10D_TESTS=ON -DC10D_BENCH=OFF &&
    cmake --build "$build" --target shims; } >"$log" 2>&1 </dev/null; then
    tail -n 60 "$log" >&2
    echo "mpi-generation: the shims do not build (full output: $log)" >&2
    exit 1
  fi
  mpirun.openmpi --version | head -n 1 >&2
  mpirun.mpich --version | sed -n 's/^ *Version: */MPICH /p' >&2
  export C10D_NATIVE_DIR="$build/lib" C10D_REQUIRE_BACKENDS=mpi
  [ $# -gt 0 ] || set -- src/backends/mpi
  exec bun test --timeout 120000 "$@"
fi

suite=$1 bun=$2
shift 2
root=$PWD/.tools/roots/$suite-mpi
scripts/debian-root.sh "$suite" "$root" libopenmpi-dev openmpi-bin libmpich-dev mpich python3-mpi4py \
  g++ cmake ninja-build pkg-config doctest-dev dash coreutils sed libc6 libstdc++6
# The links that base-files would create.
for folder in bin sbin lib lib64; do [ -e "$root/$folder" ] || ln -s "usr/$folder" "$root/$folder"; done
user=
[ "$(id -u)" -eq 0 ] || user=--map-root-user
# shellcheck disable=SC2086 # one word or none
exec unshare $user --mount sh scripts/mpi-generation.sh --inside "$root" "$bun" "$suite" "$@"
