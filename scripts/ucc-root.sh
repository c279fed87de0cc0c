#!/bin/sh
# ucc-root.sh BUN: gets UCC for a Debian without it, into .tools/ucc: `root` holds a newer Debian's libraries with the
# headers that the shim is built with, `bun` runs BUN with these libraries, `run` any program. A complete root is kept.
# Ends with 69 (EX_UNAVAILABLE) when the archive cannot be reached.
set -eu

cd "$(dirname "$0")/.."
bun=$1
tools=$PWD/.tools/ucc
root=$tools/root
# The loader and the C++ library must be as new as UCC. Not with all dependencies: those include 300 MB for GPUs,
# which UCX would load each time.
scripts/debian-root.sh --exactly forky "$root" libucc-dev libucc1 libucx0 libibverbs1 libnl-3-200 libnl-route-3-200 \
  libnuma1 librdmacm1t64 libc6 libgcc-s1 libstdc++6 zlib1g

loader=$(find "$root" -name 'ld-linux-*.so.*' | head -n 1)
[ -x "$loader" ] || {
  echo "ucc-root: no dynamic loader in $root" >&2
  exit 1
}

# write NAME: creates a script from its standard input.
write() {
  cat >"$tools/$1.new"
  chmod +x "$tools/$1.new"
  mv "$tools/$1.new" "$tools/$1"
}

write run <<END
#!/bin/sh
exec '$loader' --library-path '$(dirname "$loader")' "\$@"
END

# Bun finds its own path from the executable, which is the loader here. Further Buns must be started the same way.
printf 'process.execPath = "%s/bun";\n' "$tools" >"$tools/exec-path.js"
write bun <<END
#!/bin/sh
export BUN_OPTIONS='--preload=$tools/exec-path.js'
exec '$tools/run' '$bun' "\$@"
END
