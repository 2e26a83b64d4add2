# SPDX-License-Identifier: MIT OR Apache-2.0
systemd-analyze time
for place in pool disk; do
    same "$(findmnt --noheadings --output FSTYPE /mnt/$place)" vexfs
    same "$(cat /mnt/$place/kept)" kept
done
for pool in /srv/pool.img /dev/disk/by-id/virtio-pool; do
    # A pool that was closed in order has nothing to recover.
    same "$(vexfs-ublk status $pool --metrics | sed -n 's/^vexfs_recovery_transactions{.*} //p')" 0
done
same "$(cat /sys/module/vexfs/version)" "$(dpkg-query --show --showformat='${Version}' vexfs-dkms)"
same "$(property $unit NRestarts)" 0
# The end of the boot before went without a complaint, too.
holds '! journalctl --boot=-1 --no-pager --output=cat | grep -E "Failed unmounting|Failed to (start|stop|unmount).*([Vv]ex|mnt|dsmil)|(vexfs|mnt|dsmil).*timed out|umount process failed"'
comes_true 'systemctl is-active --quiet dsmild.service'
dsmilctl status > /dev/null
