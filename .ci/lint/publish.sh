#!/usr/bin/env bash
# Checks that the crate grip could be published: its package is complete and compiles by itself, with default features.
# Without the registry it checks only the package. With REQUIRE_REGISTRY, a registry that cannot be reached is an error.
set -euo pipefail
cd "$(dirname "$0")/../.."
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# What cargo says where there is no network, or where CARGO_NET_OFFLINE forbids it.
unreachable='failed to (query|download|fetch|get)|could not resolve|spurious network|unreachable|offline'

# --allow-dirty: lint runs before a commit as well. Compiling happens in the workspace's own target directory.
if ! cargo publish --dry-run --locked --allow-dirty --package grip >"$log" 2>&1; then
    if ! grep -qiE "$unreachable" "$log" || [ -n "${REQUIRE_REGISTRY:-}" ]; then
        cat "$log"
        exit 1
    fi
    # The package itself can be checked without the registry, if its dependencies have been downloaded before.
    if cargo package --offline --locked --allow-dirty --package grip >"$log" 2>&1; then
        echo "cargo publish --dry-run: NOT RUN, the registry cannot be reached; the package is complete and compiles"
    elif grep -qiE "$unreachable" "$log"; then
        echo "cargo publish --dry-run: NOT RUN, the registry cannot be reached"
    else
        cat "$log"
        exit 1
    fi
fi

# cargo-semver-checks needs a published version to compare with, and none has been published yet.
if [ -n "${GRIP_BASELINE:-}" ]; then
    cargo semver-checks --package grip --baseline-version "$GRIP_BASELINE"
else
    echo "cargo semver-checks: NOT RUN, no version is published to compare with (GRIP_BASELINE names one)"
fi
