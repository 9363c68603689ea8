#!/usr/bin/env bash
# Builds a Debian package of the worker: the binary, the systemd unit, and a user of its own.
#
#   packaging/build-deb.sh BINARY VERSION ARCHITECTURE OUTPUT.deb
#   packaging/build-deb.sh target/release/postern-worker 0.1.0 amd64 postern-worker.deb
set -euo pipefail
[ $# -eq 4 ] || { sed -n '2,5p' "$0" >&2; exit 2; }
binary=$1 version=$2 architecture=$3 output=$4
here=$(cd "$(dirname "$0")" && pwd)

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
chmod 755 "$root"
install -D -m 755 "$binary" "$root/usr/bin/postern-worker"
install -D -m 644 "$here/postern-worker.service" "$root/usr/lib/systemd/system/postern-worker.service"
install -D -m 644 "$here/../LICENSE-MIT" "$root/usr/share/doc/postern-worker/copyright"
install -d -m 755 "$root/DEBIAN"

cat > "$root/DEBIAN/control" <<CONTROL
Package: postern-worker
Version: $version
Architecture: $architecture
Maintainer: The Postern maintainers <maintainers@postern.invalid>
Section: net
Priority: optional
Depends: adduser, ca-certificates
Description: Runs jobs from AWS Step Functions inside a private network
 The worker takes jobs from AWS IoT Core over MQTT, runs a handler for each, and
 answers. It opens one outbound connection and no port.
CONTROL

# The configuration folder belongs to root; the worker reads its key through its group.
cat > "$root/DEBIAN/postinst" <<'POSTINST'
#!/bin/sh
set -e
if [ "$1" = configure ]; then
    adduser --system --group --quiet --no-create-home --home /var/lib/postern-worker postern-worker
    install -d -m 750 -o root -g postern-worker /etc/postern-worker
    if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
fi
POSTINST
cat > "$root/DEBIAN/prerm" <<'PRERM'
#!/bin/sh
set -e
if [ "$1" = remove ] && [ -d /run/systemd/system ]; then systemctl --no-reload disable --now postern-worker || true; fi
PRERM
chmod 755 "$root/DEBIAN/postinst" "$root/DEBIAN/prerm"

dpkg-deb --root-owner-group --build "$root" "$output" >/dev/null
echo "$output"
