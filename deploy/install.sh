#!/bin/sh
# Installs what `npm ci && npm run man` has built. May be run again, to upgrade.
#
#   deploy/install.sh [--prefix DIR] [--root DIR] [--node FILE] [--uninstall]
#
#   --prefix DIR   default /usr/local
#   --root DIR     a directory that stands for /, such as that of a package in the making
#   --node FILE    the node that runs it; default: that of PATH
#   --uninstall    remove what was installed; /etc/orca, the cache and the run directory stay
set -eu

fail() {
  echo "install.sh: $*" >&2
  exit 1
}

prefix=/usr/local
root=
node=
uninstall=
while [ $# -gt 0 ]; do
  case $1 in
    --prefix | --root | --node)
      [ $# -gt 1 ] || fail "$1 needs a value"
      case $1 in
        --prefix) prefix=${2%/} ;;
        --root) root=${2%/} ;;
        --node) node=$2 ;;
      esac
      shift 2
      ;;
    --uninstall) uninstall=yes; shift ;;
    *) fail "unknown option $1: see the top of $0" ;;
  esac
done
case $prefix in
  /*) ;;
  *) fail "--prefix must be an absolute path" ;;
esac

source=$(cd "$(dirname "$0")/.." && pwd)
library=$root$prefix/lib/orca
units=$root$prefix/lib/systemd/system
share=$root$prefix/share
zsh=$share/zsh/site-functions
# Debian's own programs use another directory.
[ "$prefix" != /usr ] || zsh=$share/zsh/vendor-completions
helper=$prefix/sbin/mount.fuse.orca

reload_units() {
  [ -z "$root" ] && [ -d /run/systemd/system ] || return 0
  systemctl daemon-reload
  # The new daemon goes on with the mounts of the old one, whose files are gone.
  [ -n "$uninstall" ] || systemctl try-restart orca.service orca-snapshotter.service
}

if [ -n "$uninstall" ]; then
  if [ -z "$root" ] && [ -d /run/systemd/system ]; then
    systemctl disable --now orca-snapshotter.service orca.service orca.socket 2>/dev/null || true
    # From systemd 254 on it keeps the mounts for a daemon that never comes, and their readers would wait for ever.
    systemctl clean --what=fdstore orca.service 2>/dev/null || true
  fi
  [ "$(readlink "$root/sbin/mount.fuse.orca" 2>/dev/null)" != "$helper" ] || rm -f "$root/sbin/mount.fuse.orca"
  rm -rf "$library" "$library.new" "$library.old"
  rm -f "$root$prefix/bin/orca" "$root$helper" "$units/orca.service" "$units/orca.socket" \
    "$units/orca-snapshotter.service" "$share/bash-completion/completions/orca" "$zsh/_orca" \
    "$share/fish/vendor_completions.d/orca.fish" "$share/man/man1/orca.1.gz" "$share/man/man1"/orca-*.1.gz \
    "$share/man/man8/mount.fuse.orca.8.gz"
  reload_units
  exit 0
fi

node=${node:-$(command -v node)} || fail "there is no node on PATH: install Node.js 20.19 or later, or give --node"
for built in dist/bin/orca.js dist/man dist/completion native/build/orca.node native/build/orca-supervisor native/build/orca; do
  [ -e "$source/$built" ] || fail "$source/$built is missing: run npm ci && npm run man first"
done

# Into place by renames, so that a command that starts meanwhile finds the old files or the new ones.
rm -rf "$library.new"
mkdir -p "$library.new/dist" "$library.new/native/build"
cp -R "$source/dist/bin" "$library.new/dist/bin"
for built in orca.node orca-supervisor orca; do
  cp "$source/native/build/$built" "$library.new/native/build/"
done
cp -R "$source/page" "$source/proto" "$source/package.json" "$library.new/"
modules=$(cd "$source" && npm ls --omit=dev --all --parseable | sed 1d)
[ -n "$modules" ] || fail "npm does not know the modules that are installed: run npm ci first"
echo "$modules" | while read -r module; do
  target=$library.new${module#"$source"}
  mkdir -p "$(dirname "$target")"
  # One that lies in another has been copied with it.
  [ -e "$target" ] || cp -R "$module" "$target"
done
find "$library.new" -type d -exec chmod 755 {} +
find "$library.new" -type f -exec chmod 644 {} +
chmod 755 "$library.new/native/build/orca-supervisor" "$library.new/native/build/orca"
# Where the launcher looks for it.
ln -s "$node" "$library.new/native/build/node"
rm -rf "$library.old"
[ ! -e "$library" ] || mv "$library" "$library.old"
mv "$library.new" "$library"
rm -rf "$library.old"

program() {
  mkdir -p "$(dirname "$root$1")"
  printf '#!/bin/sh\nexec "%s" "%s/lib/orca/dist/bin/%s" "$@"\n' "$node" "$prefix" "$2" >"$root$1"
  chmod 755 "$root$1"
}
mkdir -p "$root$prefix/bin"
ln -sfn ../lib/orca/native/build/orca "$root$prefix/bin/orca"
program "$helper" mount.fuse.orca.js
# mount(8) looks for helpers in /sbin alone.
if [ "$prefix" != /usr ]; then
  mkdir -p "$root/sbin"
  ln -sf "$helper" "$root/sbin/mount.fuse.orca"
fi

mkdir -p "$units" "$share/bash-completion/completions" "$zsh" "$share/fish/vendor_completions.d" \
  "$share/man/man1" "$share/man/man8" "$root/etc/orca"
for unit in orca.service orca.socket orca-snapshotter.service; do
  sed "s|/usr/bin/orca|$prefix/bin/orca|" "$source/deploy/systemd/$unit" >"$units/$unit"
  chmod 644 "$units/$unit"
done
install -m 644 "$source/dist/completion/orca.bash" "$share/bash-completion/completions/orca"
install -m 644 "$source/dist/completion/orca.zsh" "$zsh/_orca"
install -m 644 "$source/dist/completion/orca.fish" "$share/fish/vendor_completions.d/orca.fish"
for page in "$source"/dist/man/*; do
  gzip -9nc "$page" >"$share/man/man${page##*.}/${page##*/}.gz"
done
[ -e "$root/etc/orca/config.toml" ] || install -m 644 "$source/deploy/config.toml" "$root/etc/orca/config.toml"
reload_units
