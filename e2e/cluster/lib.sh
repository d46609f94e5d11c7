# Sourced by the scripts beside it: progress, locks, free space, the docker daemon.
# shellcheck shell=bash
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"

LOGS=$CACHE/log
mkdir -p "$CACHE" "$PARTS" "$BIN" "$LOGS" "$CACHE/work"

# --- progress ----------------------------------------------------------------

# Each line carries the seconds since the script began.
say() { printf '[%4d s] %s\n' "$SECONDS" "$*"; }

# die WHAT REMEDY...: what is wrong, and on the following lines what to do.
die() {
  printf '\n%s: %s\n' "$(basename "$0")" "$1" >&2
  shift
  printf '  %s\n' "$@" >&2
  exit 1
}

# step NAME COMMAND...: runs COMMAND with its output in a log, of which the end is shown when it fails.
step() {
  local name=$1 log=${1#part */* } from=$SECONDS
  log=$LOGS/${log//[^A-Za-z0-9.@_-]/_}.log
  shift
  say "$name ..."
  # Not as a condition: bash ignores `set -e` in whatever runs inside one.
  local rc
  set +e; (set -e; "$@") > "$log" 2>&1; rc=$?; set -e
  if [ "$rc" = 0 ]; then
    say "$name: done in $((SECONDS - from)) s"
    return
  fi
  tail -n 15 "$log" >&2
  local free; free=$(free_mb "$CACHE")
  if [ "$free" -lt 500 ]; then
    die "$name failed, and the disk of $CACHE is full ($free MB free)" \
      "Make room there, or set HOLDFAST_CACHE to a folder on another disk; then run it again: it goes on where it stopped."
  fi
  die "$name failed; whole log: $log" "After mending the cause run it again: it goes on where it stopped."
}

is_root() { [ "$(id -u)" = 0 ]; }

# --- one at a time -----------------------------------------------------------

# lock NAME FD: waits until no other run holds the lock. It is held by the open
# FD, so children go on holding it when the script itself is killed: nobody
# starts beside a half-finished step. A daemon must be started with it closed.
lock() {
  local file=$CACHE/$1.lock
  eval "exec $2>>\"\$file\""
  if ! flock -n "$2"; then
    say "waiting for another run to finish (process $(cat "$file.owner" 2>/dev/null))"
    flock "$2"
  fi
  echo "$$" > "$file.owner"
}

# --- space -------------------------------------------------------------------

free_mb() { df -Pm "$1" | awk 'NR == 2 {print $4}'; }

# need_space FOLDER MB WHAT
need_space() {
  local free; free=$(free_mb "$1")
  [ "$free" -ge "$2" ] || die "too little space in $1: $3 needs about $2 MB, $free MB are free" \
    "Make room on that disk ('$CLUSTER_DIR/down --purge' removes all that these scripts made)," \
    "or set HOLDFAST_CACHE to a folder on another disk."
}

# --- docker ------------------------------------------------------------------

# A daemon that hangs must not hang us.
docker_answers() { timeout 20 docker info > /dev/null 2>&1; }

docker_is_ours() { [ "$(docker info -f '{{.DockerRootDir}}' 2>/dev/null)" = "$DOCKER_ROOT" ]; }

DOCKER_STARTED=
# Uses the daemon that is there, else starts one whose data lies in the cache.
docker_up() {
  docker_answers && return
  [ -z "${DOCKER_HOST:-}" ] || die "the docker daemon at DOCKER_HOST=$DOCKER_HOST does not answer" \
    "Start it, or unset DOCKER_HOST."
  if [[ $(docker info 2>&1) == *"permission denied"* ]]; then
    die "this user may not talk to the docker daemon" "Join the group 'docker' (and log in again), or run this as root."
  fi
  is_root || die "no docker daemon answers, and only root can start one" "Start docker, or run this as root."
  if [ -d /run/systemd/system ] && systemctl cat docker.service > /dev/null 2>&1; then
    say "starting docker.service"
    systemctl start docker.service || true
    docker_answers && return
  fi
  # Nothing to mend by hand where an earlier daemon was killed: it takes up its containers from its data.
  say "starting a docker daemon (data in $DOCKER_ROOT)"
  mkdir -p "$DOCKER_ROOT" "$CACHE/host"
  install -m 755 "$CLUSTER_DIR/runc-nosysres" "$CACHE/host/runc-nosysres"
  cat > "$CACHE/host/daemon.json" <<JSON
{
  "data-root": "$DOCKER_ROOT", "exec-root": "$DOCKER_RUN", "pidfile": "$DOCKER_PID",
  "hosts": ["unix:///var/run/docker.sock"], "storage-driver": "overlay2",
  "default-runtime": "nosysres", "runtimes": {"nosysres": {"path": "$CACHE/host/runc-nosysres"}},
  "exec-opts": ["native.cgroupdriver=cgroupfs"], "log-opts": {"max-size": "10m"}
}
JSON
  docker_pid > /dev/null || rm -f "$DOCKER_PID"
  # The system's PATH, so that it finds the containerd shim of its own distribution. Without our locks (8, 9).
  nohup setsid env -u DOCKER_HOST PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    dockerd --config-file "$CACHE/host/daemon.json" > "$LOGS/dockerd.log" 2>&1 < /dev/null 8>&- 9>&- &
  # The cluster must not inherit the niceness of whoever called this, and starve beside a compiler.
  renice -n 0 -p $! > /dev/null 2>&1 || true
  # shellcheck disable=SC2034 # read by `up`
  DOCKER_STARTED=yes
  local i
  for ((i = 0; i < 120; i++)); do
    docker_answers && return
    sleep 0.5
  done
  tail -n 20 "$LOGS/dockerd.log" >&2
  die "the docker daemon did not start within a minute; its log: $LOGS/dockerd.log" \
    "If its data is damaged (a machine that lost power): '$CLUSTER_DIR/down --all', remove $DOCKER_ROOT, and run 'up' again."
}

# The process id of the daemon that `up` started, if it lives. Ids are reused, and another
# cache may have a daemon too, hence the look at its arguments.
docker_pid() {
  local pid; pid=$(cat "$DOCKER_PID" 2>/dev/null) || return 1
  { tr '\0' ' ' < "/proc/$pid/cmdline"; } 2>/dev/null | grep -qF "dockerd --config-file $CACHE/host/" && echo "$pid"
}

# --- recipes -----------------------------------------------------------------

# fingerprint FILE|TEXT...: changes when what an image is made of changes.
fingerprint() {
  local a
  for a; do if [ -f "$a" ]; then cat "$a"; else echo "$a"; fi; done | sha256sum | cut -c1-12
}

# docker_build ARG...: quiet; a daemon without BuildKit warns each time of a future that is not ours to choose.
docker_build() {
  docker build -q "$@" 2> "$LOGS/docker-build.log" || { cat "$LOGS/docker-build.log" >&2; return 1; }
}

# image_build NAME FINGERPRINT CONTEXT_FUNCTION: a docker image from the folder
# that the function fills, unless it is there with the same fingerprint.
image_build() {
  local name=$1 print=$2 folder
  [ "$(docker image inspect -f '{{index .Config.Labels "holdfast.fingerprint"}}' "$name" 2>/dev/null)" = "$print" ] && return
  folder=$CACHE/work/context-$(basename "$name" | tr : -)
  rm -rf "$folder"; mkdir -p "$folder"
  "$3" "$folder"
  docker_build --label "holdfast.fingerprint=$print" -t "$name" "$folder"
  rm -rf "$folder"
  docker image prune -f --filter label=holdfast.fingerprint > /dev/null # what had the name before
}
