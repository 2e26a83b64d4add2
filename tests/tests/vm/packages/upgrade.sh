# SPDX-License-Identifier: MIT OR Apache-2.0
process=$(property $unit MainPID)
driver=$(property dsmild.service MainPID)
sed --in-place s,/one,/two, /etc/apt/sources.list.d/packages.list
apt-get --quiet update
apt-get --quiet --yes upgrade >&2
for package in vexfs-ublk vexfs-dkms dsmil dsmil-dkms libdsmil1 libdsmil-dev vexfs-dev; do
    same "$(dpkg-query --show --showformat='${Version} ${db:Status-Status}' $package)" "$two installed"
done
# The same process serves on, with the program that is installed now.
same "$(property $unit MainPID)" $process
same "$(readlink /proc/$process/exe)" /usr/bin/vexfs-ublkd
same "$(property $unit NRestarts)" 2
comes_true '[ "$(property dsmild.service MainPID)" != $driver ] && dsmilctl status > /dev/null'
for name in vexfs dsmil; do
    holds "dkms status $name/$two -k $(uname -r) | grep -q ': installed'"
    same "$(dkms status $name/$one)" ""
done
# The module that is in use is still the old one.
same "$(cat /sys/module/vexfs/version)" "$one"
same "$(modinfo --field version vexfs)" "$two"
dkms status
