#!/usr/bin/env bash
# Checks that the crate grip could be published: its package is complete and compiles by itself, with default features.
# It needs the registry. With REQUIRE_REGISTRY, a registry that cannot be reached is an error.
set -euo pipefail
cd "$(dirname "$0")/../.."
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# --allow-dirty: lint runs before a commit as well. Compiling happens in the workspace's own target directory.
if ! cargo publish --dry-run --locked --allow-dirty --package grip >"$log" 2>&1; then
    if grep -qiE 'failed to (query|download|fetch|get)|could not resolve|spurious network|unreachable' "$log" &&
        [ -z "${REQUIRE_REGISTRY:-}" ]; then
        echo "NOT CHECKED: the registry cannot be reached"
        exit 0
    fi
    cat "$log"
    exit 1
fi

# cargo-semver-checks needs a published version to compare with, and none has been published yet.
if [ -n "${GRIP_BASELINE:-}" ]; then
    cargo semver-checks --package grip --baseline-version "$GRIP_BASELINE"
else
    echo "cargo semver-checks: NOT RUN, no version is published to compare with (GRIP_BASELINE names one)"
fi
