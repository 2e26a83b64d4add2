# SPDX-License-Identifier: MIT OR Apache-2.0
cp /root/fstab /etc/fstab
systemctl daemon-reload
cd /mnt/pool
sleep 3600 &
user=$!
cd /
holds '! apt-get --quiet --yes purge vexfs-ublk > /root/refusal 2>&1'
holds 'grep -q "unmount these first" /root/refusal'
findmnt --noheadings /mnt/pool
kill $user
wait $user || :

apt-get --quiet --yes purge vexfs-ublk vexfs-dkms dsmil dsmil-dkms libdsmil1 libdsmil-dev vexfs-dev >&2
same "$(findmnt --noheadings --types vexfs,fuse.vexfs || :)" ""
same "$(find /dev -name 'ublkb*')" ""
same "$(systemctl list-units --all --plain --no-legend 'vexfs*' 'dsmil*')" ""
same "$(ps -o comm= -C vexfs-ublkd,dsmild || :)" ""
same "$(find /run -xdev -name 'vexfs*' -o -xdev -name 'dsmil*')" ""
same "$(dkms status)" ""
rmmod vexfs uio_dsmil
rm /etc/modules-load.d/dsmil.conf
files > /root/after
# Users stay, as Debian wants it: their files could be somebody else's afterwards. So do the copies of the lists of them, and
# the keys that DKMS signs with.
left=$(comm -13 /root/before /root/after |
    grep -vE '^(/etc/(\.pwd\.lock|(passwd|group|shadow|gshadow)-?)|/var/lib/dkms/mok\.(key|pub))$' || :)
same "$left" ""
same "$(comm -23 /root/before /root/after)" ""
