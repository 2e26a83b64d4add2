# SPDX-License-Identifier: MIT OR Apache-2.0
mkdir /mnt/pool/texts
echo 'bridges over the river' > /mnt/pool/texts/bridges
echo 'onion soup with bread' > /mnt/pool/texts/soup
vexfs-ublk space create /mnt/pool texts --dimensions 256
vexfs-ublk embed /mnt/pool/texts --space texts
holds "vexfs-ublk search /mnt/pool --space texts -k 1 bread | grep -q /texts/soup"
holds "vexfs-ublk search /mnt/pool --space texts -k 1 river | grep -q /texts/bridges"
getfattr --absolute-names --name user.vexfs.vec.texts --only-values /mnt/pool/texts/soup | wc --bytes
