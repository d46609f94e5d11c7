# What each phase does; sourced by `run` in the top folder of the repository, with `set -e`.
# shellcheck shell=bash disable=SC2034 # the tables are read by `run`

CACHE=${HOLDFAST_CACHE:-${HOME:?}/.cache/holdfast}
TOOLS=$CACHE/bin
export HOLDFAST_VERSITYGW=${HOLDFAST_VERSITYGW:-$TOOLS/versitygw}

# Minutes after which a phase has failed: several times what it takes, for a hang must end too.
declare -A LIMIT=([setup]=30 [fmt]=2 [clippy]=20 [shell]=2 [unit]=30)
declare -A WHAT=(
  [setup]='what building and testing needs'
  [fmt]='formatting of Rust'
  [clippy]='lints of Rust, warnings fail'
  [shell]='lints of the scripts'
  [unit]='tests that need no cluster'
)
# Phases that must have ended before.
declare -A NEEDS=()

phase_setup() { scripts/setup; }
phase_fmt() { cargo fmt --all --check; }

# The same packages and features in every call of cargo: another set would build the dependencies once more.
phase_clippy() { cargo clippy --locked --workspace --all-targets --all-features -- -D warnings; }
phase_unit() { cargo test --locked --workspace --all-features --no-fail-fast; }

# Every tracked file that begins with a line for a shell.
phase_shell() {
  local scripts
  mapfile -t scripts < <(git grep -lIE -e '^#!.*\bbash$' -e '^# shellcheck shell=bash' | sort)
  shellcheck --external-sources --source-path=SCRIPTDIR "${scripts[@]}"
  echo "${#scripts[@]} scripts"
}
