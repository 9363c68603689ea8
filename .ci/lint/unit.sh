#!/usr/bin/env bash
# Checks the systemd unit: unit.sh UNIT. Its exposure must stay below 2.0 of 10 ("OK"). Without systemd, nothing is
# checked, and the script says so.
set -euo pipefail
if ! command -v systemd-analyze >/dev/null; then
    echo "   $1 NOT CHECKED: this machine has no systemd-analyze"
    exit 0
fi

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
unit=$folder/$(basename "$1")
# The program that the unit starts is not installed here.
sed 's#^ExecStart=/usr/bin/postern-worker .*#ExecStart=/bin/true#' "$1" >"$unit"
problems=$(systemd-analyze verify --man=no "$unit" 2>&1)
if [ -n "$problems" ]; then
    echo "$problems"
    exit 1
fi
# An older systemd cannot judge a file.
if systemd-analyze security --help | grep -q -e --offline; then
    systemd-analyze security --offline=true --threshold=20 "$unit" >"$folder/report" || { cat "$folder/report"; exit 1; }
else
    echo "   the exposure of $1 NOT CHECKED: this systemd-analyze has no --offline"
fi
