# Every task of the project by name. The recipes only call the scripts; nothing in the project needs `just`.

# Lists the tasks.
default:
    @just --list --unsorted

# Starts an agent and a KMS emulator in one process.
dev *args:
    cargo run --release -- dev {{ args }}

# Runs everything that a change must pass: format, lints, docs, tests.
check:
    tests/run

# Runs the tests whose names contain FILTER.
test filter='':
    cargo nextest run --workspace {{ filter }}

# Formats all code.
format:
    cargo fmt --all

# Runs clippy over the workspace, with warnings as errors.
lint:
    cargo lint

# Opens the API documentation of all crates.
docs:
    cargo doc --workspace --no-deps --open

# Builds the documents as a book in target/book and checks its links.
book:
    .ci/book

# Runs what takes too long for every change: fuzzing, kills, damage, containers, soak.
full:
    .ci/full

# Runs one fuzz target, such as `config`, for a number of seconds.
fuzz target seconds='60':
    RUSTC_BOOTSTRAP=1 cargo fuzz run --fuzz-dir tests/fuzz {{ target }} -- -max_total_time={{ seconds }}

# Measures the agent beside a bare HTTP server.
bench:
    tests/bench/run

# Runs the soak test for a number of seconds.
soak seconds='300':
    KMS_AGENT_TEST_SECONDS={{ seconds }} tests/soak/run

# Tries one deployment in containers: local, linux, deb, docker-compose, ack or confined.
deploy way:
    tests/deploy/{{ way }}

# Builds the Debian package for this machine.
deb:
    deploy/deb/build

# Builds all release artifacts in target/release-artifacts.
release:
    .ci/release
