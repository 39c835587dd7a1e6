#!/bin/sh
# guest-efi.sh DISK ROOT GUEST: a raw disk from which firmware that is EFI boots the kernel on the disk GUEST, with systemd's boot loader
# from ROOT.
set -eu
disk=$1 root=$2 guest=$3
work=$(mktemp -d "$root/tmp/efi.XXXXXX") # within ROOT, whose programs work on it
inside=${work#"$root"}
mkdir "$work/guest" "$work/boot"
mount -o loop,ro "$guest" "$work/guest"
cp "$work/guest/boot/vmlinuz" "$work/guest/boot/initrd" "$work/boot/"
umount "$work/guest"
mkdir -p "$work/boot/EFI/BOOT" "$work/boot/loader/entries"
cp "$root/usr/lib/systemd/boot/efi/systemd-bootx64.efi" "$work/boot/EFI/BOOT/BOOTX64.EFI"
echo 'timeout 0' > "$work/boot/loader/loader.conf"
cat > "$work/boot/loader/entries/guest.conf" <<'C'
title guest
linux /vmlinuz
initrd /initrd
options console=ttyS0 mitigations=off quiet panic=-1
C
truncate --size=$(($(du --summarize --block-size=1M "$work/boot" | cut -f1) + 8))M "$work/disk"
chroot "$root" mkfs.vfat "$inside/disk"
chroot "$root" sh -c "mcopy -s -i $inside/disk $inside/boot/* ::/"
mv "$work/disk" "$disk"
rm -rf "$work"
