#!/bin/sh
# launcher-root.sh ROOT: a Debian with what virt-launcher and virt-handler call, in a new folder.
set -eu
root=$1
debootstrap --variant=minbase trixie "$root"
cp /etc/resolv.conf "$root/etc/resolv.conf"
printf '#!/bin/sh\nexit 101\n' > "$root/usr/sbin/policy-rc.d" # start nothing
chmod +x "$root/usr/sbin/policy-rc.d"
chroot "$root" env DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet --no-install-recommends \
	libvirt-daemon libvirt-daemon-driver-qemu libvirt-daemon-log libvirt-clients qemu-system-x86 qemu-utils seabios \
	ovmf swtpm swtpm-tools procps iproute2 nftables xorriso libcap2-bin passt jq
rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/usr/share/doc "$root"/usr/share/man "$root"/usr/share/locale
