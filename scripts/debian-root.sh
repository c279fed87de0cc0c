#!/bin/sh
# debian-root.sh [--exactly] SUITE FOLDER PACKAGE…: unpacks packages of another Debian suite, with all dependencies (or
# exactly those packages), into FOLDER: the libraries of a newer Debian next to those of this machine. Nothing is
# installed and no package script is run. Does not need root. Uses the archive that this machine's apt sources name.
# A complete FOLDER is kept. Ends with 69 (EX_UNAVAILABLE) when the archive cannot be reached.
set -eu

exactly=
if [ "$1" = --exactly ]; then
  exactly=yes
  shift
fi
suite=$1 folder=$2
shift 2

die() {
  printf 'debian-root: %s\n' "$*" >&2
  exit 1
}

wanted="$suite: $*"
if [ "$(cat "$folder/.complete" 2>/dev/null)" = "$wanted" ]; then exit 0; fi

for tool in apt-get dpkg-deb; do
  command -v $tool >/dev/null || die "$tool is not installed: only Debian can unpack packages of another Debian"
done
release=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
archive=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
  sed -n "s/ $release main\$//p" | head -n 1)
grep -qx 'ID=debian' /etc/os-release && [ -n "$archive" ] ||
  die "the apt sources of this machine name no archive of Debian ${release:-(unknown release)} main to get '$suite' from"

work=$folder.partial
rm -rf "$work"
mkdir -p "$work/lists/partial" "$work/archives/partial" "$work/root" "$work/none"
work=$(cd "$work" && pwd)
: >"$work/status"
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
[ ! -e $keyring ] || signed="[signed-by=$keyring]"
printf 'deb %s %s %s main\n' "${signed:-}" "$archive" "$suite" >"$work/sources.list"

# Keeps the machine's own settings, such as a proxy. Only the source of packages and the list of installed ones differ.
apt() {
  apt-get -q -y -o Dir::State::lists="$work/lists" -o Dir::State::status="$work/status" \
    -o Dir::State::extended_states="$work/extended" -o Dir::Cache="$work" -o Dir::Cache::archives="$work/archives" \
    -o Dir::Etc::SourceList="$work/sources.list" -o Dir::Etc::SourceParts="$work/none" \
    -o Dir::Etc::Preferences="$work/preferences" -o Dir::Etc::PreferencesParts="$work/none" \
    -o Acquire::Check-Valid-Until=false -o Acquire::Languages=none -o Acquire::Retries=2 \
    -o APT::Update::Error-Mode=any -o APT::Sandbox::User= -o APT::Install-Recommends=false \
    -o Debug::NoLocking=true "$@" >"$work/log" 2>&1 </dev/null
}

if ! apt update; then
  tail -n 5 "$work/log" >&2
  if grep -qE '404 |does not have a Release file' "$work/log"; then
    die "the archive of this machine has no suite '$suite'"
  fi
  printf 'debian-root: cannot reach the archive for %s; this needs a network, or an existing %s\n' "$suite" "$folder" >&2
  exit 69
fi
fetch() {
  if [ -n "$exactly" ]; then
    (cd "$work/archives" && apt download "$@")
  else
    apt install --download-only "$@"
  fi
}
if ! fetch "$@"; then
  tail -n 10 "$work/log" >&2
  die "cannot download $* of '$suite'"
fi
for package in "$work"/archives/*.deb; do dpkg-deb -x "$package" "$work/root"; done
printf '%s\n' "$wanted" >"$work/root/.complete"
rm -rf "$folder"
mkdir -p "$(dirname "$folder")"
mv "$work/root" "$folder"
rm -rf "$work"
