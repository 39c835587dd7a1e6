#!/bin/sh
# guest-disk.sh DISK ROOT PROGRAM: a raw disk with a file system, without partitions, from which a virtual machine boots the Debian in
# ROOT with PROGRAM as its first process.
set -eu
disk=$1 root=$2 program=$3
work=$(mktemp -d "$root/tmp/disk.XXXXXX") # within ROOT, whose programs work on it
kernel=$(ls "$root/usr/lib/modules")

# The initial RAM disk is PROGRAM and the modules it needs, in order.
mkdir -p "$work/initrd/modules" "$work/initrd/dev" "$work/initrd/proc" "$work/initrd/sys" "$work/initrd/root"
cp "$program" "$work/initrd/init"
number=100
for module in virtio_pci virtio_blk virtio_scsi sd_mod virtio_console ext4 efivarfs; do
	chroot "$root" modprobe --show-depends --set-version "$kernel" "$module"
done | sed -n 's/^insmod \([^ ]*\).*/\1/p' | awk '!seen[$0]++' | while read -r file; do
	name=$(basename "${file%%.ko*}")
	case $file in
	*.xz) chroot "$root" xz --decompress --stdout "$file" ;;
	*) cat "$root/$file" ;;
	esac > "$work/initrd/modules/$number-$name.ko"
	number=$((number + 1))
done

# What only fills the disk stays behind.
mkdir "$work/tree"
tar --directory "$root" --create --exclude=./usr/lib/modules --exclude=./usr/share/doc --exclude=./usr/share/man --exclude=./usr/share/locale \
	--exclude=./usr/share/zoneinfo --exclude=./usr/lib/locale --exclude=./var/cache --exclude=./var/lib/apt --exclude=./var/log --exclude='./boot/*' --exclude='./tmp/*' \
	--exclude=./usr/lib/udev/hwdb.bin --exclude=./usr/share/i18n --exclude=./usr/lib/gconv . |
	tar --directory "$work/tree" --extract
mkdir -p "$work/tree/boot" "$work/tree/data" "$work/tree/root"
cp "$program" "$work/tree/usr/sbin/guest"
ln -sf guest "$work/tree/usr/sbin/shutdown"
cat > "$work/tree/boot/extlinux.conf" <<'C'
SERIAL 0 115200
DEFAULT guest
PROMPT 0
TIMEOUT 1
LABEL guest
 KERNEL /boot/vmlinuz
 INITRD /boot/initrd
 APPEND console=ttyS0 mitigations=off quiet panic=-1
C

chroot "$root" sh -c "cd ${work#"$root"}/initrd && find . | cpio --quiet --create --format=newc" > "$work/initrd.cpio"

size=$(($(du --summarize --block-size=1M "$work/tree" | cut -f1) + 160))
truncate --size="${size}M" "$disk"
# The boot loader reads neither 64-bit block numbers nor checksums of metadata.
mkfs.ext4 -q -F -b 4096 -L root -O '^64bit,^metadata_csum' -d "$work/tree" "$disk"
mkdir "$work/mounted"
mount -o loop "$disk" "$work/mounted"
# Nor does it read files with holes, which mkfs makes of zeros.
cp --sparse=never "$root/boot/vmlinuz-$kernel" "$work/mounted/boot/vmlinuz"
cp --sparse=never "$work/initrd.cpio" "$work/mounted/boot/initrd"
# Outside of its root, because it looks into /proc and at the device that is mounted.
"$root/lib64/ld-linux-x86-64.so.2" --library-path "$root/usr/lib/x86_64-linux-gnu" "$root/usr/bin/extlinux" --install "$work/mounted/boot"
umount "$work/mounted"
rm -rf "$work"
