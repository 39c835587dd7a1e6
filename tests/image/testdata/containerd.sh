# Runs in namespaces of mounts and processes of its own: what it starts and mounts goes with it.
set -eu
archive=$1 reference=$2
mount -t tmpfs tmpfs /run
mkdir target
chmod 0777 target # as an emptyDir is
cat > config.toml <<CONFIG
version = 2
root = "$PWD/root"
state = "/run/containerd"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "/run/containerd/containerd.sock"
CONFIG
containerd --config config.toml > containerd.log 2>&1 &
tries=0
until ctr version > /dev/null 2>&1; do
  tries=$((tries + 1))
  if [ $tries = 300 ]; then
    cat containerd.log
    exit 1
  fi
  sleep 0.1
done
ctr images import --all-platforms "$archive" # as "kind load image-archive" does
ctr run --rm --mount "type=bind,src=$PWD/target,dst=/target,options=rbind:rw" "$reference" copy
target/velero-plugin-for-kubevirt version
