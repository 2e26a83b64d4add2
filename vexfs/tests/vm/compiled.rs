// SPDX-License-Identifier: MIT OR Apache-2.0

//! A kernel's headers are unpacked on a mount, and a module is compiled in it that the running kernel takes. From the host.

use std::time::Duration;

use anyhow::{Result, ensure};
use lab::host::workspace;
use lab::kernel;
use lab::runner::guest;
use lab::vm::{Disk, Ended, Machine, Spec};
use lab_guest::protocol::Command;

use crate::served;

const LIMIT: Duration = Duration::from_secs(25 * 60);
const MODULE: &str = "dsmil/kernel";
/// It takes a header from there.
const OTHER: &str = "vexfs/kernel";
/// The tree's own headers are hidden by those on the mount, so that the compiler reads no others.
const SCRIPT: &str = r#"for d in /sys/block/*; do [ "$(cat $d/serial 2>/dev/null)" = pool ] && pool=/dev/${d##*/}; done
modprobe ublk_drv
insmod $LAB_MODULES/vexfs.ko
$CLI mkfs $pool
mkdir -p /mnt/pool
mount -i -t vexfs $($CLI add $pool) /mnt/pool
begun=$(date +%s)
cd $TREE/usr/src
headers=$(echo linux-headers-* linux-kbuild-*)
tar -cf - $headers | tar -C /mnt/pool -xf -
cd /
files=$(find /mnt/pool -type f | wc -l)
echo "$files files unpacked, $(($(date +%s) - begun)) s"
sync
echo 3 > /proc/sys/vm/drop_caches
for part in $SOURCES; do
    mkdir -p /mnt/pool/project/$part
    cp -r $PROJECT/$part/. /mnt/pool/project/$part
done
mount --bind /mnt/pool $TREE/usr/src
mount -t proc proc $TREE/proc
mount -t tmpfs tmpfs $TREE/tmp
begun=$(date +%s)
chroot $TREE /usr/bin/env -i PATH=/usr/bin:/bin LC_ALL=C make -C /usr/src/project/$MODULE KDIR=$HEADERS CC=$COMPILER modules -j2
echo "compiled, $(($(date +%s) - begun)) s"
umount $TREE/usr/src
for part in $headers; do diff -r --no-dereference $TREE/usr/src/$part /mnt/pool/$part; done
modprobe uio
insmod /mnt/pool/project/$MODULE/uio_dsmil.ko
rmmod uio_dsmil
umount /mnt/pool
$CLI del --all
$CLI check --scrub $pool
echo sound
"#;

#[lab_guest::test(kernels = "stock", timeout = 1800, stress = true)]
fn a_module_is_compiled_with_kernel_headers_that_are_unpacked_on_it(kernel: &str) -> Result<()> {
    let kernel = kernel::ensure(kernel.parse()?, false)?;
    let modules = kernel::modules::ensure(&kernel)?;
    let directory = workspace::machine_directory(&format!("compiled-{}", kernel.id));
    std::fs::create_dir_all(&directory)?;
    let mut spec = Spec::new(&kernel, &directory);
    spec.disks.push(Disk::create(&directory, "pool", 1024)?);
    let variables = format!(
        "set -e; CLI={} TREE={} HEADERS={} COMPILER={} PROJECT={} MODULE={MODULE} SOURCES='{MODULE} {OTHER}'\n",
        served::program("vexfs-ublk")?.display(),
        kernel.tree.path("/").display(),
        kernel.headers,
        kernel.gcc(),
        workspace::root().display(),
    );
    let mut machine = Machine::boot(&spec)?;
    let job = machine.start(&Command {
        env: guest::environment(&modules),
        ..Command::shell(&format!("{variables}{SCRIPT}"))
    })?;
    let mut printed = String::new();
    let ended = machine.wait(job, LIMIT, |_, bytes| printed.push_str(&String::from_utf8_lossy(bytes)));
    println!("{printed}");
    ensure!(
        matches!(ended, Ended::Exit(_)) && printed.trim_end().ends_with("sound"),
        "{ended:?}: {printed}"
    );
    if let Some(report) = machine.take_report() {
        anyhow::bail!("the kernel complains: {report}");
    }
    drop(machine);
    Ok(std::fs::remove_dir_all(&directory)?)
}
