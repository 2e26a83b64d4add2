# SPDX-License-Identifier: MIT OR Apache-2.0
for killed in $unit dsmild.service; do
    for round in 1 2; do
        process=$(property $killed MainPID)
        kill -KILL $process
        comes_true "[ \"\$(property $killed SubState)\" = running ] && [ \"\$(property $killed MainPID)\" != $process ]"
    done
    same "$(property $killed NRestarts)" 2
done
comes_true 'dsmilctl status > /dev/null'
vexfs-ublk list
