#!/bin/sh
# gloo-generation.sh SUITE BUN [--build | arguments of bun test…]: builds the gloo shim for the libgloo of another
# Debian suite and, without --build, runs tests with it: the loader and libraries of that suite, with the compiler, Bun
# and kernel of this machine.
set -eu

cd "$(dirname "$0")/.."
suite=$1 bun=$2
shift 2

here=$PWD/.tools/roots
root=$here/$suite
# The development files are needed as well as the library, and the loader must be as new as the libraries.
scripts/debian-root.sh "$suite" "$root" libgloo-dev libc6 libstdc++6

libraries=$(dirname "$(find "$root" -name 'ld-linux-*.so.*' | head -n 1)")
loader=$(find "$libraries" -name 'ld-linux-*.so.*')
[ -x "$loader" ] || {
  echo "gloo-generation: no dynamic loader in $root" >&2
  exit 1
}

# Bun finds its own path from the executable, which is the loader here. Further Buns must be started the same way.
tools=$here/$suite-tools
mkdir -p "$tools"
printf 'process.execPath = "%s/bun";\n' "$tools" >"$tools/exec-path.js"
cat >"$tools/bun.new" <<END
#!/bin/sh
export BUN_OPTIONS='--preload=$tools/exec-path.js'
exec '$loader' --library-path '$libraries:$root/usr/lib' '$bun' "\$@"
END
chmod +x "$tools/bun.new"
mv "$tools/bun.new" "$tools/bun"

build=$tools/build
log=$tools/build.log
if ! { cmake -S native -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release "-DGloo_ROOT=$root/usr" -DC10D_TESTS=OFF \
  -DC10D_BENCH=OFF && cmake --build "$build" --target c10d_gloo; } >"$log" 2>&1 </dev/null; then
  tail -n 60 "$log" >&2
  echo "gloo-generation: the shim does not build for the libgloo of $suite (full output: $log)" >&2
  exit 1
fi
sed -n 's/^-- \(libgloo of .*\)/\1/p' "$log" >&2
[ "${1:-}" != --build ] || exit 0

# Only gloo is from that suite: the shims of the other backends are built for the MPIs and the UCC of this machine.
C10D_NATIVE_DIR=$build/lib C10D_REQUIRE_BACKENDS=gloo C10D_GENERATION=$suite PATH=$tools:$PATH
export C10D_NATIVE_DIR C10D_REQUIRE_BACKENDS C10D_GENERATION PATH
[ $# -gt 0 ] || set -- src/backends/gloo
exec "$tools/bun" test --timeout 60000 "$@"
