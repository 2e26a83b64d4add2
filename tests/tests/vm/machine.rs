// SPDX-License-Identifier: MIT OR Apache-2.0

//! What machines can do for tests: exit codes, disks, shared memory, freezing, power cuts, running side by side.

use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lab::vm::{Disk, Ended, Ivshmem, Machine, SharedMemory};
use lab_guest::protocol::{Command, Exit};

use crate::Bench;

const SHORT: Duration = Duration::from_secs(30);

#[lab_guest::test]
fn exit_codes_signals_and_output_reach_the_host(kernel: &str) -> Result<()> {
    let bench = Bench::new(kernel, "exit")?;
    let mut machine = Machine::boot(&bench.spec)?;
    println!(
        "{} is up after {:.2} s",
        bench.kernel.release,
        machine.boot_time().as_secs_f64()
    );
    for code in [0, 1, 3, 77, 255] {
        let output = machine.shell(&format!("echo out; echo err >&2; exit {code}"), SHORT)?;
        ensure!(
            output.exit == Exit::Code(code),
            "exit {code} arrived as {:?}",
            output.exit
        );
        ensure!(
            (output.stdout.as_str(), output.stderr.as_str()) == ("out\n", "err\n"),
            "{output:?}"
        );
    }
    ensure!(machine.shell("kill -9 $$", SHORT)?.exit == Exit::Signal(9));
    let missing = machine.start(&Command::new(["/no/such"]))?;
    let ended = machine.wait(missing, SHORT, |_, _| {});
    ensure!(
        matches!(&ended, Ended::Exit(Exit::NotStarted(why)) if why.contains("No such file")),
        "{ended:?}"
    );
    // A megabyte, to the last byte.
    let output = machine.succeed("head -c 1048576 /dev/zero | tr '\\0' x", SHORT)?;
    ensure!(
        output.len() == 1 << 20 && output.bytes().all(|byte| byte == b'x'),
        "{} bytes arrived",
        output.len()
    );
    Ok(())
}

#[lab_guest::test(kernels = "stock")]
fn a_command_that_does_not_end_is_ended_with_its_children(kernel: &str) -> Result<()> {
    let bench = Bench::new(kernel, "timeout")?;
    let mut machine = Machine::boot(&bench.spec)?;
    let job = machine.start(&Command::shell("setsid sleep 600 & sleep 600"))?;
    ensure!(matches!(
        machine.wait(job, Duration::from_secs(1), |_, _| {}),
        Ended::TimedOut
    ));
    machine.kill(job)?;
    let ended = machine.wait(job, SHORT, |_, _| {});
    ensure!(matches!(ended, Ended::Exit(Exit::Signal(9))), "{ended:?}");
    ensure!(
        machine.shell("pgrep sleep", SHORT)?.exit == Exit::Code(1),
        "a descendant is still alive"
    );
    Ok(())
}

#[lab_guest::test(kernels = "stock")]
fn what_was_synced_survives_a_power_cut_and_the_disks_are_found_by_name(kernel: &str) -> Result<()> {
    let mut bench = Bench::new(kernel, "power")?;
    for name in ["first", "second"] {
        bench.spec.disks.push(Disk::create(&bench.spec.directory, name, 64)?);
    }
    let find = r#"for d in /sys/block/*; do [ "$(cat $d/serial 2>/dev/null)" = second ] && dev=/dev/${d##*/}; done"#;
    let mut machine = Machine::boot(&bench.spec)?;
    machine.succeed(
        &format!("{find}; echo survived | dd of=$dev bs=512 conv=sync,fsync"),
        SHORT,
    )?;
    machine.start(&Command::new(["sleep", "60"]))?;
    let spec = machine.power_cut()?;
    let mut machine = Machine::boot(&spec)?;
    let found = machine.succeed(&format!("{find}; head -c 8 $dev"), SHORT)?;
    ensure!(found == "survived", "the disk holds {found:?} after the power cut");
    ensure!(machine.shut_down()?, "the guest did not power off by itself");
    Ok(())
}

#[lab_guest::test(kernels = "stock")]
fn a_frozen_guest_goes_on_where_it_was(kernel: &str) -> Result<()> {
    let mut bench = Bench::new(kernel, "freeze")?;
    bench.spec.bounds.silence = Duration::from_secs(3);
    let mut machine = Machine::boot(&bench.spec)?;
    let job = machine.start(&Command::shell("sleep 1; echo awake"))?;
    machine.freeze()?;
    let mut output = Vec::new();
    // Longer than the silence bound: a machine frozen on purpose is not lost.
    let ended = machine.wait(job, Duration::from_secs(5), |_, bytes| output.extend_from_slice(bytes));
    ensure!(
        matches!(ended, Ended::TimedOut) && output.is_empty(),
        "{ended:?} while frozen"
    );
    machine.thaw()?;
    let ended = machine.wait(job, SHORT, |_, bytes| output.extend_from_slice(bytes));
    ensure!(
        matches!(ended, Ended::Exit(Exit::Code(0))) && output == b"awake\n",
        "{ended:?} after thawing"
    );
    Ok(())
}

#[lab_guest::test(kernels = "stock")]
fn host_and_guest_see_each_other_through_the_ivshmem_device(kernel: &str) -> Result<()> {
    let mut bench = Bench::new(kernel, "ivshmem")?;
    let memory = SharedMemory::create(&bench.spec.directory)?;
    let handle = memory.open()?;
    bench.spec.ivshmem = Some(Ivshmem::Memory(memory));
    let mut machine = Machine::boot(&bench.spec)?;
    // The last page of the BAR, so that its whole length is proved.
    let offset = SharedMemory::SIZE - 4096;
    handle.write_all_at(b"from the host", offset)?;
    let script = format!(
        r#"for d in /sys/bus/pci/devices/*; do [ "$(cat $d/vendor):$(cat $d/device)" = 0x1af4:0x1110 ] && bar=$d/resource2; done
        python3 - "$bar" <<'PY'
import mmap, sys
with open(sys.argv[1], "r+b") as bar:
    memory = mmap.mmap(bar.fileno(), {size})
    print(memory[{offset}:{offset} + 13].decode())
    memory[0:14] = b"from the guest"
PY"#,
        size = SharedMemory::SIZE
    );
    machine.succeed(
        "for d in /sys/bus/pci/devices/*; do [ \"$(cat $d/device)\" = 0x1110 ] && echo 1 > $d/enable; done; true",
        SHORT,
    )?;
    let seen = machine.succeed(&script, SHORT)?;
    ensure!(seen.trim() == "from the host", "the guest sees {seen:?}");
    let mut bytes = [0; 14];
    handle.read_exact_at(&mut bytes, 0)?;
    ensure!(
        &bytes == b"from the guest",
        "the host sees {:?}",
        String::from_utf8_lossy(&bytes)
    );
    Ok(())
}

#[lab_guest::test(kernels = "6.12")]
fn two_machines_run_side_by_side(kernel: &str) -> Result<()> {
    let first = Bench::new(kernel, "pair-a")?;
    let second = Bench::new(kernel, "pair-b")?;
    let mut a = Machine::boot(&first.spec)?;
    let mut b = Machine::boot(&second.spec)?;
    for (machine, text) in [(&mut a, "a"), (&mut b, "b")] {
        machine.succeed(&format!("echo {text} > /tmp/who"), SHORT)?;
    }
    ensure!(a.succeed("cat /tmp/who", SHORT)? == "a\n" && b.succeed("cat /tmp/who", SHORT)? == "b\n");
    drop(a);
    ensure!(
        b.succeed("cat /tmp/who", SHORT)? == "b\n",
        "one machine's end took the other along"
    );
    Ok(())
}

#[lab_guest::test(kernels = "stock")]
fn the_host_root_cannot_be_written_and_the_share_can(kernel: &str) -> Result<()> {
    let bench = Bench::new(kernel, "root")?;
    let mut machine = Machine::boot(&bench.spec)?;
    let path = bench.spec.directory.join("from-guest");
    machine.succeed(
        "echo shared > /lab/from-guest; echo private > /lab-test-was-here; cat /lab-test-was-here",
        SHORT,
    )?;
    ensure!(std::fs::read_to_string(&path).context("reading what the guest wrote")? == "shared\n");
    ensure!(
        !std::path::Path::new("/lab-test-was-here").exists(),
        "the guest wrote to the host's root"
    );
    Ok(())
}

#[lab_guest::test(kernels = "stock")]
fn a_kernel_that_cannot_boot_is_an_error_with_its_console(kernel: &str) -> Result<()> {
    let mut bench = Bench::new(kernel, "noboot")?;
    bench.spec.command_line = "rdinit=/no/such init=/no/such".into();
    let start = Instant::now();
    let error = Machine::boot(&bench.spec).err().context("it booted all the same")?;
    ensure!(format!("{error:#}").contains("panic"), "{error:#}");
    ensure!(start.elapsed() < SHORT, "the error took {:?}", start.elapsed());
    Ok(())
}
