#!/usr/bin/env bash
# shellcheck disable=SC2034 # read by the scripts that source this
# Names, places and versions of the test cluster, in one file.
#
# Sourced by the scripts beside it. Executed, it prints what other programs
# need, for a shell: eval "$(e2e/cluster/env.sh)".

CLUSTER_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# Everything slow to make is kept below one folder outside the repository.
HOLDFAST_CACHE=${HOLDFAST_CACHE:-${HOME:?}/.cache/holdfast}
CACHE=$HOLDFAST_CACHE/cluster
PARTS=$CACHE/parts              # one file or folder per built part: NAME@VERSION
BIN=$CACHE/bin                  # links to the parts that people and tests call
DOCKER_ROOT=$CACHE/docker       # data of the docker daemon that `up` starts
DOCKER_RUN=/run/docker-holdfast # its sockets; not below CACHE, because a socket path is limited to 107 bytes
DOCKER_PID=/run/docker-holdfast.pid
CSI_DATA=$CACHE/csi-data        # the folder that holds the volumes of class imagefile

CLUSTER=${HOLDFAST_CLUSTER:-holdfast}
CONTEXT=kind-$CLUSTER
# Never the caller's own KUBECONFIG: `up` writes to this file and `down` deletes from it.
CLUSTER_KUBECONFIG=$CACHE/$CLUSTER.kubeconfig

# kind is pinned: it is the last release line known to accept cgroup v1.
KIND=v0.33.0
KUBERNETES=1.36.3
# These two must be what `kubeadm config images list` names for KUBERNETES; the node image build refuses others.
ETCD=v3.6.8
COREDNS=v1.14.2
CONTAINERD=v2.3.7
CNI=v1.9.1
LOCAL_PATH=v0.0.30
HELM=v3.22.0
SNAPSHOTTER=v8.6.0
PROVISIONER=v6.3.0
ATTACHER=v4.12.0
VERSITYGW=v1.8.0
DEBIAN=bookworm

# The object store of the tests. The credentials are fixed and public: nothing but test data is behind them.
S3_ENDPOINT=http://object-store.object-store.svc:7070
S3_BUCKET=holdfast
S3_REGION=us-east-1
S3_ACCESS_KEY=holdfast-test
S3_SECRET_KEY=holdfast-test-secret

export KUBECONFIG=$CLUSTER_KUBECONFIG
export PATH=$BIN:$PATH

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
  cat <<VARIABLES
export KUBECONFIG='$CLUSTER_KUBECONFIG'
export HOLDFAST_CLUSTER_CONTEXT='$CONTEXT'
export HOLDFAST_KUBE_BIN='$BIN'
export HOLDFAST_S3_ENDPOINT='$S3_ENDPOINT'
export HOLDFAST_S3_BUCKET='$S3_BUCKET'
export HOLDFAST_S3_REGION='$S3_REGION'
export HOLDFAST_S3_ACCESS_KEY='$S3_ACCESS_KEY'
export HOLDFAST_S3_SECRET_KEY='$S3_SECRET_KEY'
export PATH='$BIN':"\$PATH"
VARIABLES
fi
