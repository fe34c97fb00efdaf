#!/bin/sh
# Makes dist/orca_VERSION_ARCHITECTURE.deb of what `npm ci && npm run man` has built, for the Debian release of this
# machine or later ones. Needs dpkg-deb and no debhelper. SOURCE_DATE_EPOCH makes it the same again.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
dist=$here/../dist
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
chmod 755 "$stage"

version=$(node -p 'require(process.argv[1]).version' "$here/../package.json")
architecture=$(dpkg --print-architecture)
# The binaries are linked against this machine's libraries; an older one lacks symbols.
at_least() {
  echo "$1 (>= $(dpkg-query --show --showformat '${Version}' "$1" | sed 's/-[^-]*$//'))"
}

sh "$here/install.sh" --root "$stage" --prefix /usr --node /usr/bin/node
for built in orca.node orca-supervisor orca; do
  strip --strip-unneeded "$stage/usr/lib/orca/native/build/$built"
done
mkdir -p "$stage/DEBIAN" "$stage/usr/share/doc/orca"
cp "$here/debian/copyright" "$stage/usr/share/doc/orca/"
cp "$here/../README.md" "$here"/../docs/*.md "$stage/usr/share/doc/orca/"
chmod 644 "$stage/usr/share/doc/orca"/*

cat >"$stage/DEBIAN/control" <<CONTROL
Package: orca
Version: $version
Architecture: $architecture
Maintainer: Orca developers <orca@localhost>
Installed-Size: $(du -sk "$stage" | cut -f1)
Depends: nodejs (>= 20.19), fuse3, $(at_least libc6), $(at_least libstdc++6)
Recommends: runc
Suggests: containerd
Section: admin
Priority: optional
Description: starts containers without pulling them
 Images on a file share are mounted in milliseconds, and only the bytes that a
 container touches are read. With a daemon whose mounts outlive it, a
 snapshotter for containerd, a helper for mount(8), and an OCI registry.
CONTROL
echo /etc/orca/config.toml >"$stage/DEBIAN/conffiles"
for script in postinst prerm postrm; do
  install -m 755 "$here/debian/$script" "$stage/DEBIAN/$script"
done
(cd "$stage" && find usr -type f -exec md5sum {} + | LC_ALL=C sort -k 2) >"$stage/DEBIAN/md5sums"
chmod 644 "$stage/DEBIAN/control" "$stage/DEBIAN/conffiles" "$stage/DEBIAN/md5sums"

mkdir -p "$dist"
dpkg-deb --root-owner-group --build "$stage" "$dist/orca_${version}_$architecture.deb"
