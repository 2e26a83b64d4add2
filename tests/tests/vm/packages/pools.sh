# SPDX-License-Identifier: MIT OR Apache-2.0
disk=/dev/disk/by-id/virtio-pool
vexfs-ublk mkfs /srv/pool.img --size 512MiB --label files
mkfs -t vexfs --label disk "$disk"
fsck.vexfs -n "$disk"
comes_true '[ "$(lsblk --nodeps --noheadings --output FSTYPE "$disk")" = vexfs ]'
same "$(lsblk --nodeps --noheadings --output LABEL "$disk")" disk
uuid=$(lsblk --nodeps --noheadings --output UUID "$disk")
same "$(readlink --canonicalize /dev/disk/by-uuid/$uuid)" "$(readlink --canonicalize "$disk")"

# A server that is emulated, and has compilers beside it, takes seconds to come back.
echo "/srv/pool.img /mnt/pool vexfs timeout=20000 0 0" >> /etc/fstab
echo "UUID=$uuid /mnt/disk vexfs timeout=20000 0 0" >> /etc/fstab
systemctl daemon-reload
mount /mnt/pool
systemctl start mnt-disk.mount
for place in pool disk; do
    same "$(findmnt --noheadings --output FSTYPE /mnt/$place)" vexfs
    # Nobody syncs that.
    echo kept > /mnt/$place/kept
done
same "$(property $unit ActiveState)" active
property $unit StatusText
same "$(findmnt --noheadings --output UUID /mnt/pool)" "$(vexfs-ublk identify /srv/pool.img | sed -n 's/^ID_FS_UUID=//p')"
# The disk is still found by its UUID, not the device that presents what is on it.
udevadm settle
same "$(readlink --canonicalize /dev/disk/by-uuid/$uuid)" "$(readlink --canonicalize "$disk")"
lsblk --fs --noheadings
