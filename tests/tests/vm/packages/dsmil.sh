# SPDX-License-Identifier: MIT OR Apache-2.0
modprobe dsmil-84dev
comes_true 'systemctl is-active --quiet dsmild.service'
same "$(stat --dereference --format='%U %a' /dev/dsmil)" 'dsmil 600'
holds 'ps -o user= -C dsmild | grep -qx dsmil'
dsmilctl status > /dev/null
dsmilctl selftest
module=$(modinfo --field filename uio_dsmil)
case $module in
    *.xz) xz --decompress --stdout "$module" > /tmp/uio_dsmil.ko ;;
    *.zst) zstd --decompress --stdout "$module" > /tmp/uio_dsmil.ko ;;
    *) cp "$module" /tmp/uio_dsmil.ko ;;
esac
dsmilctl validate --module /tmp/uio_dsmil.ko --library /usr/lib/x86_64-linux-gnu/libdsmil.so.1
# An ordinary user is in neither group.
holds '! setpriv --reuid=nobody --regid=nogroup --clear-groups dsmilctl status'
holds 'setpriv --reuid=nobody --regid=nogroup --groups=dsmil dsmilctl status > /dev/null'
# Other people's shared memory has the same numbers: which machines have the device, somebody must say.
echo dsmil-84dev > /etc/modules-load.d/dsmil.conf
