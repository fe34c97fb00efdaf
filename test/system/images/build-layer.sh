#!/bin/sh
# Runs one build step in a chroot and leaves what it changed in WORK/upper, as overlayfs stores it.
# Usage: unshare --mount build-layer.sh LOWERDIRS WORK APT FILES SCRIPT
#   LOWERDIRS  the layers below, topmost first, joined by ':'
#   WORK       a fresh directory
#   APT        package lists and caches, shared by all builds and part of no layer
#   FILES      mounted at /mnt while SCRIPT, a file in it, runs
set -eu
lower=$1 work=$2 apt=$3 files=$4 script=$5
root=$work/root
mkdir -p "$work/upper" "$work/work" "$root"
mount -t overlay -o "lowerdir=$lower,upperdir=$work/upper,workdir=$work/work,redirect_dir=off,index=off,metacopy=off,volatile" \
  overlay "$root"
mount -t proc proc "$root/proc"
mount -t tmpfs tmpfs "$root/tmp"
mount --bind /etc/resolv.conf "$root/etc/resolv.conf"
mount --bind "$apt/lists" "$root/var/lib/apt/lists"
mount --bind "$apt/cache" "$root/var/cache/apt"
mount --bind "$files" "$root/mnt"
exec chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
  http_proxy="${http_proxy-}" sh -eu "/mnt/$script" </dev/null
