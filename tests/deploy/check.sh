# Functions for the deployment tests. A test is a sentence and the commands after it; the first failure ends the run.
# shellcheck shell=bash
set -euo pipefail
shopt -s inherit_errexit

sentence='preparing'
holds() {
    sentence=$1
    printf '  %s\n' "$sentence"
}

# refused COMMAND…: the command must fail. (`!` alone would not end the run.)
refused() {
    if "$@" >/dev/null 2>&1; then
        echo "succeeded, and should not have: $*" >&2
        return 1
    fi
}

# eventually COMMAND…: the command must succeed within half a minute.
eventually() { within 30 "$@"; }

# within SECONDS COMMAND…
within() {
    local until=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        if ((SECONDS > until)); then
            echo "never succeeded: $*" >&2
            "$@"
            return 1
        fi
        sleep 0.3
    done
}

# equal ACTUAL EXPECTED
equal() {
    diff --unified=0 --label expected --label got <(printf '%s\n' "$2") <(printf '%s\n' "$1") >&2
}

# lacks TEXT WORD: the output must not contain WORD, which is not printed here either.
lacks() {
    case $1 in *"$2"*)
        echo 'tells what it must not' >&2
        return 1
        ;;
    esac
}

# needs TOOL…: skips the test if a tool or a Docker engine is missing.
needs() {
    local tool
    for tool in "$@"; do
        command -v "$tool" >/dev/null || skip "there is no $tool"
    done
    docker info >/dev/null 2>&1 || skip 'no Docker engine answers'
}
skip() {
    printf 'SKIPPED %s: %s\n' "${0##*/}" "$1" >&2
    exit
}

# told COMMAND: runs it by the test's function `user`; deploy/README.md must contain it word for word.
told() {
    local guide
    guide=$(cat "$(dirname "${BASH_SOURCE[0]}")/../../deploy/README.md")
    case $guide in
    *$'\n'"$1"$'\n'*) user "$1" ;;
    *)
        echo "deploy/README.md does not say: $1" >&2
        return 1
        ;;
    esac
}

# programs: sets agent and emulator, and builds those that the environment does not name.
programs() {
    local root
    root=$(realpath "$(dirname "${BASH_SOURCE[0]}")/../..")
    local built=${CARGO_TARGET_DIR:-$root/target}/release
    if [ -z "${KMS_AGENT_TEST_BINARY:-}" ] || [ -z "${KMS_AGENT_TEST_EMULATOR:-}" ]; then
        (cd "$root" && cargo build --release -p alibabacloud-kms-agent -p kms-agent-emulator)
    fi
    # shellcheck disable=SC2034 # The tests use them.
    agent=$(realpath "${KMS_AGENT_TEST_BINARY:-$built/alibabacloud-kms-agent}")
    # shellcheck disable=SC2034
    emulator=$(realpath "${KMS_AGENT_TEST_EMULATOR:-$built/kms-emulator}")
}

# Each test defines trace, which prints logs after a failure, and clean_up, which removes everything it made.
finish() {
    local status=$?
    if [ "$status" -ne 0 ]; then
        printf 'FAILED: %s\n' "$sentence" >&2
        trace >&2 || true
    fi
    clean_up >/dev/null 2>&1 || true
    exit "$status"
}
trap finish EXIT
