# What each phase does; sourced by `run` in the top folder of the repository, with `set -e`.
# shellcheck shell=bash disable=SC2034 # the tables are read by `run`

CACHE=${HOLDFAST_CACHE:-${HOME:?}/.cache/holdfast}
TARGET=${CARGO_TARGET_DIR:-target}
export PATH=$CACHE/bin:$PATH
# Read by the tests; each may be set by the caller.
export HOLDFAST_VERSITYGW=${HOLDFAST_VERSITYGW:-$CACHE/bin/versitygw}
export HOLDFAST_KUBE_BIN=${HOLDFAST_KUBE_BIN:-$CACHE/cluster/bin}
export HOLDFAST_HELM=${HOLDFAST_HELM:-$HOLDFAST_KUBE_BIN/helm}

# Minutes after which a phase has failed: several times what it takes on two cores, for a hang must end too.
declare -A LIMIT=(
  [setup]=15 [tools]=60 [fmt]=2 [shell]=2 [clippy]=30 [compile]=45 [unit]=60 [gen]=25 [generated]=10 [dependencies]=5
  [docs]=2 [cluster]=80 [binaries]=45 [images]=10 [e2e]=60 [bench]=180 [fleet]=60
  [suite]=10 [clients]=10 [conformance]=60 [valgrind]=60
  [fuzz]=$((60 + 10 * ${FUZZ_SECONDS:-600} / 60))
)
declare -A WHAT=(
  [setup]='packages and toolchains'
  [tools]='programs that tests call, built once per version'
  [fmt]='formatting of Rust'
  [shell]='lints and tests of the scripts'
  [docs]='every page is in the index, and every link leads somewhere'
  [clippy]='lints of Rust, warnings fail'
  [compile]='build of the tests with the lints of Rust, warnings fail'
  [unit]='tests that need no cluster'
  [gen]='write the generated files again'
  [generated]='generated files are those of their sources'
  [dependencies]='licences, sources, advisories, duplicates'
  [cluster]='a Kubernetes of three nodes, with volumes and an S3 server'
  [binaries]='static release binaries'
  [images]='images of server and operator, into the cluster'
  [e2e]='behaviours on the cluster'
  [bench]='speed, memory and latency beside other servers'
  [fleet]='the operator with a thousand Stores'
  [suite]='the quick part of the test suite of Redis'
  [clients]='redis-py and go-redis against the release binary'
  [conformance]='the test suite of Redis'
  [fuzz]='fuzz targets, led by coverage'
  [valgrind]='tests of entries and tables, watched by valgrind'
)
# Phases that must have ended before.
declare -A NEEDS=([unit]=tools [gen]=tools [generated]=tools [dependencies]=tools [images]='cluster binaries' [e2e]='cluster images'
  [bench]=binaries [fleet]='tools binaries' [suite]=binaries [clients]='tools binaries' [conformance]=binaries)

phase_setup() { scripts/setup; }
phase_tools() { scripts/tools; }

# --- checks ------------------------------------------------------------------

phase_fmt() { cargo fmt --all --check; }

phase_clippy() { cargo clippy --locked --workspace --all-targets --all-features -- -D warnings; }

# The same lints on the way to tests that run: clippy's driver compiles the packages of the workspace, where `cargo clippy`
# would check all that they are made of as well. Every test is built so, and always --workspace: with another compiler or
# other features cargo builds again.
checked_test() {
  RUSTC_WORKSPACE_WRAPPER=$(rustc --print sysroot)/bin/clippy-driver CLIPPY_ARGS=-D__CLIPPY_HACKERY__warnings__CLIPPY_HACKERY__ \
    cargo test --locked --workspace "$@"
}
phase_compile() { checked_test --features holdfast-e2e/cluster --all-targets --no-run; }

# Every tracked file that begins with a line for a shell; and what the judges in Python decide.
phase_shell() {
  local scripts
  mapfile -t scripts < <(git grep -lIE -e '^#!.*\b(ba)?sh$' -e '^# shellcheck shell=' | sort)
  shellcheck --external-sources --source-path=SCRIPTDIR "${scripts[@]}"
  echo "${#scripts[@]} scripts"
  python3 scripts/test_tools.py
}

phase_docs() {
  local index=docs/README.md page link target path bad=0 pages=()
  mapfile -t pages < <(git ls-files --cached --others --exclude-standard -- '*.md' | sort)
  # Where links of the index lead to, as paths from the top folder.
  local -A indexed=([$index]=1)
  for page in "${pages[@]}"; do
    while IFS= read -r link; do
      link=${link#'('} target=${link%%[)#]*}
      case $target in '' | *://* | mailto:*) continue ;; esac
      path=$(realpath -m --relative-to=. "$(dirname "$page")/$target")
      if [ ! -e "$path" ]; then echo "$page: $target leads nowhere"; bad=1; fi
      [ "$page" != "$index" ] || indexed[$path]=1
    done < <(grep -oE '\]\([^) ]+\)' "$page" | sed 's/^]//' || true)
  done
  for page in "${pages[@]}"; do
    [ -n "${indexed[$page]:-}" ] || { echo "$page: not in $index"; bad=1; }
  done
  echo "${#pages[@]} pages"
  return "$bad"
}

# The database of advisories is a git repository on GitHub. Where that cannot be reached the other checks still hold.
phase_dependencies() {
  cargo-deny --locked check --hide-inclusion-graph bans licenses sources
  if timeout 120 cargo-deny --locked fetch db; then cargo-deny --locked check --disable-fetch advisories
  else echo "NOTE: advisories and yanked versions were NOT checked: the database cannot be fetched here; run \`make deps\` where GitHub can be reached"
  fi
}

GENERATED=(crds charts/holdfast/crds charts/holdfast/tests deploy/holdfast.yaml crates/operator/tests/golden)
generate() {
  # Builds the operator too, in the same way as for the tests.
  checked_test --no-run --test crd_files --test chart --test golden
  HOLDFAST_OPERATOR=$TARGET/debug/holdfast-operator deploy/gen.sh
  UPDATE_GOLDEN=1 checked_test --quiet --test chart --test golden > "$TARGET/generate.log" 2>&1 || {
    cat "$TARGET/generate.log"
    return 1
  }
}
phase_gen() {
  generate
  git status --short -- "${GENERATED[@]}"
}

# The files are written again and compared with what was there; the difference stays, to be read and committed.
phase_generated() {
  local before=$TARGET/generated-before
  rm -rf "$before"
  mkdir -p "$before"
  cp -a --parents "${GENERATED[@]}" "$before"
  generate
  local path differs=
  for path in "${GENERATED[@]}"; do diff -ru "$before/$path" "$path" || differs=yes; done
  [ -z "$differs" ] || {
    echo "These files were not those of their sources. They have been written again: read the difference, and commit it."
    return 1
  }
}

# --- tests -------------------------------------------------------------------

phase_unit() { checked_test --no-fail-fast; }

phase_cluster() {
  if [ -n "${HOLDFAST_E2E_CONTEXT:-}" ]; then
    echo "HOLDFAST_E2E_CONTEXT is set: the cluster of context $HOLDFAST_E2E_CONTEXT is used as it is"
  else e2e/cluster/up
  fi
}

# Empty on a machine where `setup` has still to find the pinned toolchain; every phase asks again.
HOST=$(rustc -vV 2> /dev/null | sed -n 's/^host: //p' || true)
BINARIES=$TARGET/$HOST/release
phase_binaries() {
  if [ -n "${HOLDFAST_E2E_CONTEXT:-}" ]; then
    echo "HOLDFAST_E2E_CONTEXT is set: nothing is built, the images of HOLDFAST_IMAGES (${HOLDFAST_IMAGES:-localhost}) are used"
  else
    build_binaries
    # What upgrades begin with; built once.
    [ -z "${HOLDFAST_E2E_FULL:-}" ] || bench/peers base base-operator
  fi
}
# With --target the flag is not for build scripts, and the other builds keep their own.
build_binaries() {
  RUSTFLAGS="-C target-feature=+crt-static" \
    cargo build --locked --release --target "$HOST" -p holdfast-server -p holdfast-operator
  ls -l "$BINARIES/holdfast-server" "$BINARIES/holdfast-operator"
}

# Against the release binaries, which the images need anyway.
phase_suite() { run_suite --quick; }
phase_conformance() { run_suite; }
run_suite() {
  if [ -n "${HOLDFAST_E2E_CONTEXT:-}" ]; then
    echo "NOTE: the suite of Redis was NOT run: HOLDFAST_E2E_CONTEXT is set, so no binary is built; run \`make conformance\` without it"
  else conformance/run --server "$BINARIES/holdfast-server" --out "$TARGET/conformance" "$@"
  fi
}

phase_clients() {
  if [ -n "${HOLDFAST_E2E_CONTEXT:-}" ]; then
    echo "NOTE: other people's clients were NOT run: HOLDFAST_E2E_CONTEXT is set, so no binary is built; run \`make clients\` without it"
  else conformance/clients/run --server "$BINARIES/holdfast-server"
  fi
}

phase_images() {
  [ -z "${HOLDFAST_E2E_CONTEXT:-}" ] || return 0
  if [ -n "${HOLDFAST_E2E_FULL:-}" ]; then
    local released
    mapfile -t released < <(bench/peers base base-operator)
    e2e/cluster/images --server "${released[0]}" --operator "${released[1]}" --version 0.1.0-f00b60a --revision f00b60a
  fi
  e2e/cluster/images --server "$BINARIES/holdfast-server" --operator "$BINARIES/holdfast-operator"
}

# A thread for each behaviour: they wait for their turn, which the harness gives, and then for the cluster.
phase_e2e() {
  local all=()
  if [ -n "${HOLDFAST_E2E_FULL:-}" ]; then all=(--include-ignored)
  else echo "NOTE: behaviours that take minutes each (five) are ignored here; \`make e2e-full\` runs them"
  fi
  checked_test --no-fail-fast --features holdfast-e2e/cluster --test e2e -- --test-threads 99 "${all[@]}"
}

# --- figures -----------------------------------------------------------------

# BENCH_PAGE=1: write the figures into the page that is committed.
phase_bench() {
  local options=()
  [ -z "${BENCH_PAGE:-}" ] || options+=(--page crates/server/docs/performance.md)
  bench/compare --server "$BINARIES/holdfast-server" --out "$TARGET/bench" "${options[@]}"
}

# The limits count, with a page to write or one that is thrown away.
phase_fleet() {
  local page=crates/operator/docs/scale.md
  if [ -z "${BENCH_PAGE:-}" ]; then
    cp "$page" "$TARGET/scale.md"
    page=$TARGET/scale.md
  fi
  HOLDFAST_SCALE_STORES=${HOLDFAST_SCALE_STORES:-1000} HOLDFAST_SCALE_BACKUPS=${HOLDFAST_SCALE_BACKUPS:-10} \
    HOLDFAST_SCALE_IDLE_SECONDS=${HOLDFAST_SCALE_IDLE_SECONDS:-600} HOLDFAST_SCALE_CHANGES=${HOLDFAST_SCALE_CHANGES:-200} \
    HOLDFAST_OPERATOR=$PWD/$BINARIES/holdfast-operator HOLDFAST_SCALE_PAGE=$PWD/$page \
    checked_test --test scale -- --nocapture
}

# --- fuzzing -----------------------------------------------------------------

phase_fuzz() { crates/server/fuzz/run; }

# --- memory ------------------------------------------------------------------

# The tests of the library use the system allocator, which valgrind knows. Addresses in the table have six bytes, which its
# search for leaks cannot follow.
phase_valgrind() {
  command -v valgrind > /dev/null || { echo "valgrind is missing: apt-get install valgrind"; return 1; }
  local test
  test=$(checked_test --lib --no-run --message-format=json |
    jq -r 'select(.profile.test == true and .target.name == "holdfast_server" and .target.kind == ["lib"]) | .executable')
  PROPTEST_CASES=${PROPTEST_CASES:-8} valgrind --quiet --error-exitcode=9 --leak-check=no "$test" engine::object engine::table engine::chunk
}
