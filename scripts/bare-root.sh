#!/bin/sh
# bare-root.sh [REPORT [PATH…]]: runs the README's two commands, `./bootstrap demo` and `./bootstrap test`, on a fresh
# machine: a minimal Debian 12 in .tools/bare-root, which contains only what debootstrap installs, and a clone of the
# last commit. Needs root, debootstrap, a network, about 3 GB and a quarter of an hour. Package sources (apt's archive
# and settings, npm's registry, certificates, proxies) are those of this machine. The JUnit report of the tests, all or
# those under the PATHs, is written to REPORT. Ends with 69 (EX_UNAVAILABLE) when the archive cannot be reached.
set -eu

cd "$(dirname "$0")/.."
report=${1:-}
[ $# -eq 0 ] || shift
paths=$*
suite=bookworm
folder=$PWD/.tools/bare-root
root=$folder/root

die() {
  printf 'bare-root: %s\n' "$*" >&2
  exit 1
}

[ "$(id -u)" -eq 0 ] || die "only root can set up a Debian root"
command -v debootstrap >/dev/null || die "debootstrap is not installed: ./bootstrap deps debootstrap"

# ── The root ────────────────────────────────────────────────────────────────────────────────────────────────────────

targets=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' 'Origin: Debian' | sort -u)
archive=$(printf '%s\n' "$targets" | sed -n 's/ [^ ]* main$//p' | grep -v -- -security | head -n 1)
[ -n "$archive" ] || die "the apt sources of this machine name no Debian archive"

# stage WHAT STARTED: prints a log line with the elapsed time and the current size of the root.
stage() { printf 'sample bare root: %s, %d s, %d MB\n' "$1" $(($(date +%s) - $2)) "$(du -sm "$root" | cut -f 1)"; }

rm -rf "$folder"
mkdir -p "$folder"
started=$(date +%s)
if ! debootstrap --variant=minbase "$suite" "$root" "$archive" >"$folder/debootstrap.log" 2>&1 </dev/null; then
  tail -n 5 "$folder/debootstrap.log" >&2
  if grep -qE 'Failed getting release file|Invalid Release file' "$folder/debootstrap.log"; then
    printf 'bare-root: cannot reach the Debian archive\n' >&2
    exit 69
  fi
  die "debootstrap failed"
fi
{
  printf 'deb %s %s main\n' "$archive" "$suite"
  printf '%s\n' "$targets" | sed -n "s/^\([^ ]*\) \($suite-[^ ]*\) main$/deb \1 \2 main/p"
} >"$root/etc/apt/sources.list"
apt-config dump | grep -E '^Acquire::(https?|Check-Date|Check-Valid-Until|Retries|ForceIPv[46])\b' >"$root/etc/apt/apt.conf.d/90here" || true
cp /etc/resolv.conf /etc/hosts "$root/etc/"
stage "debootstrap" "$started"

git clone --quiet --depth 1 "file://$PWD" "$root/root/bun-c10d"
[ -z "$(git status --porcelain)" ] || echo "bare-root: tests the last commit, without uncommitted changes"

# ── The network settings of this machine ────────────────────────────────────────────────────────────────────────────

set -- HOME=/root TERM=dumb PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
for name in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY; do
  value=$(printenv $name || true)
  [ -z "$value" ] || set -- "$@" "$name=$value"
done
certificates=${NODE_EXTRA_CA_CERTS:-}
if command -v npm >/dev/null; then
  set -- "$@" "npm_config_registry=$(npm config get registry)"
  [ -n "$certificates" ] || certificates=$(npm config get cafile | grep -vx null || true)
fi
if [ -n "$certificates" ]; then
  # Not in Debian's own certificate folder, which a minimal Debian does not have.
  cp "$certificates" "$root/root/certificates.pem"
  set -- "$@" NODE_EXTRA_CA_CERTS=/root/certificates.pem npm_config_cafile=/root/certificates.pem
fi

# ── The two commands ────────────────────────────────────────────────────────────────────────────────────────────────

# inside COMMAND…: runs it in the root, with its own processes, devices and shared memory. No process outlives it.
inside() {
  unshare --mount --pid --fork --kill-child sh -euc '
    root=$1
    shift
    # Makes this the root of its mount namespace, as on any machine, since tests create and enter their own namespaces.
    mount --bind "$root" "$root"
    mount -t proc proc "$root/proc"
    mount -t sysfs -o ro sysfs "$root/sys"
    mount -t tmpfs -o mode=755 tmpfs "$root/dev"
    for device in null zero full random urandom tty; do
      : >"$root/dev/$device"
      mount --bind "/dev/$device" "$root/dev/$device"
    done
    mkdir "$root/dev/pts" "$root/dev/shm"
    mount -t devpts -o newinstance,ptmxmode=666 devpts "$root/dev/pts"
    mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
    ln -s pts/ptmx "$root/dev/ptmx"
    ln -s /proc/self/fd "$root/dev/fd"
    mkdir -p "$root/mnt/outside"
    cd "$root"
    pivot_root . mnt/outside
    cd /
    umount --lazy /mnt/outside
    # The shell stays as process 1, which has to reap orphans.
    env -i "$@"
  ' sh "$root" "$@" </dev/null
}

run() { inside "$@" sh -c "cd /root/bun-c10d && exec $commands"; }

for commands in './bootstrap demo' './bootstrap test --reporter=junit --reporter-outfile=/root/report.xml'" $paths"; do
  started=$(date +%s) status=0
  what=$(printf '%s' "$commands" | cut -d ' ' -f 1-2)
  printf '── %s\n' "$what"
  run "$@" || status=$?
  stage "$what" "$started"
  [ -z "$report" ] || [ ! -f "$root/root/report.xml" ] || cp "$root/root/report.xml" "$report"
  [ $status -eq 0 ] || die "$what ended with exit code $status; the root is left in $root"
done
rm -rf "$folder"
