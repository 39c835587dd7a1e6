#!/bin/sh
# launcher-layer.sh LAYER ROOT KUBEVIRT NAME PROGRAM...: puts KubeVirt's programs, and files from the folder KUBEVIRT of its module, into
# ROOT, as its image NAME has them (KubeVirt v1.8.4, cmd/virt-launcher/BUILD.bazel), and packs it all.
set -eu
layer=$1 root=$2 kubevirt=$3
shift 4
install --mode=755 "$@" "$kubevirt/cmd/virt-launcher/node-labeller/node-labeller.sh" "$root/usr/bin/"
gcc -O2 -static -o "$root/usr/bin/container-disk" "$kubevirt/cmd/container-disk-v2alpha/main.c"
install --mode=644 "$kubevirt/cmd/virt-launcher/qemu.conf" "$kubevirt/cmd/virt-launcher/virtqemud.conf" "$root/etc/libvirt/"
install --mode=644 "$kubevirt/cmd/virt-launcher/nsswitch.conf" "$root/etc/"
install -D --mode=755 --owner=107 --group=107 "$kubevirt/cmd/virt-launcher/qemu" "$root/etc/libvirt/hooks/qemu"
grep -q '^qemu:' "$root/etc/passwd" || {
	echo 'qemu:x:107:107:qemu:/home/qemu:/bin/bash' >> "$root/etc/passwd"
	echo 'qemu:x:107:' >> "$root/etc/group"
}
mkdir -p "$root/home/qemu" "$root/var/log/libvirt/qemu"
# virt-handler follows this link from outside, where an absolute one leads astray.
ln -sfn ../run "$root/var/run"
# Debian has one libvirtd in place of a daemon for each driver. It holds the same QEMU driver.
cat > "$root/usr/sbin/virtqemud" <<'W'
#!/bin/sh
mkdir -p /run/libvirt
ln -sfn libvirt-sock /run/libvirt/virtqemud-sock
exec /usr/sbin/libvirtd "$@"
W
chmod 755 "$root/usr/sbin/virtqemud"
# The names that KubeVirt looks for (pkg/virt-launcher/virtwrap/efi/efi.go).
ln -sf OVMF_CODE_4M.fd "$root/usr/share/OVMF/OVMF_CODE.fd"
ln -sf OVMF_VARS_4M.fd "$root/usr/share/OVMF/OVMF_VARS.fd"
chroot "$root" setcap cap_net_bind_service=+ep /usr/bin/virt-launcher-monitor
tar --xattrs --xattrs-include=security.capability --numeric-owner --directory "$root" --create --file "$layer" .
