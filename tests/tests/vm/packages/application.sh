# SPDX-License-Identifier: MIT OR Apache-2.0
# An application that takes no errors, until it is told.
rounds=0
while [ ! -e /root/enough ]; do
    for place in pool disk; do
        echo "round $rounds" > /mnt/$place/draft
        sync /mnt/$place/draft
        mv /mnt/$place/draft /mnt/$place/$((rounds % 5))
        same "$(cat /mnt/$place/$((rounds % 5)))" "round $rounds"
    done
    rounds=$((rounds + 1))
done
echo "              $rounds rounds"
