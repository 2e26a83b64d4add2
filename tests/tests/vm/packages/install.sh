# SPDX-License-Identifier: MIT OR Apache-2.0
mkdir -p /mnt/pool /mnt/disk
echo 'deb [trusted=yes] file:/media/lab/one ./' > /etc/apt/sources.list.d/packages.list
cp /etc/fstab /root/fstab
files > /root/before

apt-get --quiet update
apt-get --quiet --yes install vexfs-ublk vexfs-dkms dsmil dsmil-dkms libdsmil-dev vexfs-dev >&2
for name in vexfs dsmil; do
    holds "dkms status $name/$one -k $(uname -r) | grep -q ': installed'"
done
dkms status
same "$(modinfo --field version vexfs)" "$one"
same "$(modinfo --field version uio_dsmil)" "$one"
same "$(systemctl --failed --no-legend)" ""
# A word that systemd does not know, or not there, it passes over.
holds '! systemd-analyze verify --man=no "$unit" dsmild.service 2>&1 | grep -E "vexfs|dsmil"'
vexfs-ublk doctor
