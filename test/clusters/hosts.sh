#!/bin/sh
# hosts.sh NAME…: hosts of one network, from 10.78.0.1; this shell is the first. Each has its own network, name, shared
# memory and $TMPDIR; they share files and process ids. To be run in such a set of namespaces.
set -eu

host() {
  hostname "$1"
  mount -t tmpfs tmpfs /dev/shm
  mount -t tmpfs -o mode=1777 tmpfs "$TMPDIR"
  ip link set lo up
}

if [ "$1" = --host ]; then
  host "$2"
  until ip link set veth up 2>/dev/null; do sleep 0.02; done
  ip addr add "10.78.0.$3/24" dev veth
  echo "$2"
  while :; do sleep 1000; done
fi

host "$1"
echo "127.0.0.1 localhost" >"$HOSTS"
for name in "$@"; do
  number=$((${number:-0} + 1))
  echo "10.78.0.$number $name" >>"$HOSTS"
done
mount --bind "$HOSTS" /etc/hosts
ip link add name switch type bridge
ip link set switch up
ip addr add 10.78.0.1/24 dev switch
shift
number=1
for name in "$@"; do
  number=$((number + 1))
  unshare --net --uts --mount sh "$0" --host "$name" $number &
  # Its network namespace exists once it differs from ours.
  until [ "$(readlink /proc/$!/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.01; done
  ip link add name "to-$name" type veth peer name veth netns $!
  ip link set "to-$name" master switch up
done
wait
