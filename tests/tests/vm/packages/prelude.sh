# SPDX-License-Identifier: MIT OR Apache-2.0
# What all steps share.
set -eu
export LC_ALL=C DEBIAN_FRONTEND=noninteractive
. /media/lab/versions

# Waits until a line of shell succeeds.
comes_true() {
    rounds=0
    until eval "$1"; do
        rounds=$((rounds + 1))
        if [ $rounds -ge 120 ]; then
            echo "does not come true: $1" >&2
            exit 1
        fi
        sleep 1
    done
}

# The line must succeed.
holds() {
    eval "$1" || { echo "does not hold: $1" >&2; exit 1; }
}

# Two texts are the same.
same() {
    [ "$1" = "$2" ] || { echo "'$1' is not '$2'" >&2; exit 1; }
}

# All units were started, and none failed.
came_up() {
    while state=$(systemctl is-system-running || :); [ "$state" = starting ] || [ "$state" = initializing ]; do
        sleep 1
    done
    same "$state" running
}

property() {
    systemctl show --property="$2" --value "$1"
}

# The files of the system. What is only made or changed while it runs is left out.
files() {
    find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /run -o -path /tmp -o -path /var/tmp -o -path /root \
        -o -path /media -o -path /srv -o -path /var/cache -o -path /var/lib/apt -o -path /var/lib/dpkg \
        -o -path /var/log/journal -o -path /var/log/apt -o -path /var/log/dpkg.log \) -prune -o -print | sort
}

unit=vexfs-ublk@srv-pool.img.service
