#!/bin/sh
# without-doctest.sh [arguments of bun test…]: `./bootstrap test` as on a machine without doctest where only the shims
# have been built so far, which is the state that `./bootstrap demo` leaves. Changes neither this machine nor build/.
# Ends with 69 (EX_UNAVAILABLE) if no mount namespace can be created.
set -eu

cd "$(dirname "$0")/.."

if [ "${1:-}" != --inside ]; then
  if [ "$(id -u)" -eq 0 ]; then namespace='unshare --mount'; else namespace='unshare --map-root-user --mount'; fi
  if ! reason=$($namespace mount -t tmpfs tmpfs /mnt 2>&1); then
    echo "without-doctest: cannot hide doctest, since no mount namespace can be created: $reason" >&2
    exit 69
  fi
  copy=build/without-doctest
  rm -rf "$copy"
  mkdir -p "$copy"
  cp -a build/release "$copy/release"
  rm -rf "$copy/release/bin"
  status=0
  $namespace "./scripts/${0##*/}" --inside "$@" || status=$?
  rm -rf "$copy"
  exit $status
fi

shift
for folder in /usr/include/doctest /usr/local/include/doctest; do
  [ ! -d $folder ] || mount -t tmpfs tmpfs $folder
done
if [ -d build/ci ]; then # test reports may be written there
  mkdir build/without-doctest/ci
  mount --bind build/ci build/without-doctest/ci
fi
mount --rbind build/without-doctest build
./bootstrap test "$@"
grep -qx C10D_TESTS:BOOL=OFF build/release/CMakeCache.txt || {
  echo "without-doctest: doctest was found anyway, so this run proves nothing" >&2
  exit 1
}
