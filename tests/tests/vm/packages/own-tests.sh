# SPDX-License-Identifier: MIT OR Apache-2.0
for name in $(sed -n 's/^Tests: //p' /media/lab/packaging/debian/tests/control); do
    echo "$name:"
    /media/lab/packaging/debian/tests/$name
done
