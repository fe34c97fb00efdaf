#!/bin/sh
# Becomes the first process of a host: systemd in namespaces of its own, over the root file system in `base`.
#
#   unshare --mount --propagation private boot.sh DIRECTORY BASE CGROUP
#
# DIRECTORY is on a file system that overlayfs takes as its upper layer. It has upper, work and root; and disk/, whose
# entries var/lib/orca, var/cache/orca and srv are those of the host, kept over boots and seen from outside.
set -eu
directory=$1 base=$2 cgroup=$3
root=$directory/root
mount -t overlay none -o "lowerdir=$base,upperdir=$directory/upper,workdir=$directory/work" "$root"
for path in var/lib/orca var/cache/orca srv; do
  mkdir -p "$directory/disk/$path" "$root/$path"
  mount --bind "$directory/disk/$path" "$root/$path"
done
mount -t tmpfs -o mode=755 none "$root/dev"
for node in null zero full random urandom tty fuse autofs; do
  touch "$root/dev/$node"
  mount --bind "/dev/$node" "$root/dev/$node"
done
ln -s /proc/self/fd "$root/dev/fd"
mkdir "$root/dev/pts" "$root/dev/shm" "$root/old"
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
mount -t tmpfs none "$root/dev/shm"
mount -t tmpfs -o mode=755 none "$root/run"
mount -t tmpfs none "$root/tmp"
echo $$ >"$cgroup/cgroup.procs"
# What is mounted here is for the new namespaces to show. A host's mounts are shared, and a container's are not: with
# `container` systemd leaves the devices, clock and kernel settings of this machine alone, and mounts as they are.
exec unshare --pid --fork --kill-child --mount --propagation private --uts --ipc --net --cgroup sh -euc '
  cd "$1"
  mount -t proc proc proc
  mount -t sysfs -o ro sysfs sys
  mount -t cgroup2 none sys/fs/cgroup
  hostname orca
  pivot_root . old
  umount --lazy /old
  rmdir /old
  mount --make-rshared /
  exec env -i container=orca PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --show-status=0
' sh "$root"
