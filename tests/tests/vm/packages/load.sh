# SPDX-License-Identifier: MIT OR Apache-2.0
for engine in 'libaio --direct=1 --iodepth=8' 'psync'; do
    fio --name=verify --directory=/mnt/pool --rw=randwrite --bs=4k --size=24M \
        --ioengine=$engine --verify=crc32c --verify_state_save=0 \
        --end_fsync=1 --output-format=terse --terse-version=3 | cut --delimiter=';' --fields=3,5,48,49
    rm /mnt/pool/verify.*
done
