#!/bin/sh
# guest-root.sh ROOT: the Debian of the virtual machines, in a new folder.
set -eu
root=$1
debootstrap --variant=minbase --include=linux-image-cloud-amd64,qemu-guest-agent,sqlite3,e2fsprogs,kmod,extlinux,syslinux-common,systemd-boot-efi,dosfstools,mtools,tpm2-tools,xz-utils,cpio \
	trixie "$root"
