// SPDX-License-Identifier: MIT OR Apache-2.0

//! The module alone, inside the guest. The device is an ivshmem without interrupt and without firmware.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use dsmil::layout::{CHUNK_SIZE, CHUNKS, REGION_SIZE};
use dsmil::memory::Mapping;
use lab_guest::{kmod, lifecycle, sys};

const MODULE: &str = "uio_dsmil";
const VERSION: &str = env!("CARGO_PKG_VERSION");
const DRIVER: &str = "/sys/bus/pci/drivers/uio_dsmil";

/// The module, loaded until this is dropped.
struct Loaded;

impl Loaded {
    fn with(parameters: &str) -> Result<Self> {
        kmod::modprobe("uio")?;
        kmod::load(MODULE, parameters)?;
        Ok(Self)
    }

    /// Unloads it, which must succeed.
    fn unload(self) -> Result<()> {
        std::mem::forget(self);
        kmod::unload(MODULE)
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        if let Err(error) = kmod::unload(MODULE) {
            eprintln!("{error:#}");
        }
    }
}

/// The PCI address of the ivshmem device.
fn pci() -> Result<String> {
    for entry in fs::read_dir("/sys/bus/pci/devices")? {
        let path = entry?.path();
        if sys::read(path.join("device"))? == "0x1110" {
            return Ok(path.file_name().context("no name")?.to_string_lossy().into_owned());
        }
    }
    anyhow::bail!("this machine has no ivshmem device")
}

/// The one UIO device.
fn uio() -> Result<PathBuf> {
    let names: Vec<_> = fs::read_dir("/sys/class/uio")?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    ensure!(names.len() == 1, "there are these UIO devices: {names:?}");
    Ok(Path::new("/dev").join(&names[0]))
}

fn no_uio() -> Result<()> {
    let count = fs::read_dir("/sys/class/uio")?.count();
    ensure!(count == 0, "{count} UIO devices are left");
    Ok(())
}

fn open(path: &Path) -> std::io::Result<File> {
    File::options().read(true).write(true).open(path)
}

/// Where BAR 2 of the ivshmem device is.
fn bar() -> Result<u64> {
    let text = sys::read(format!("/sys/bus/pci/devices/{}/resource", pci()?))?;
    let line = text.lines().nth(2).context("no third BAR")?;
    let start = line.split_ascii_whitespace().next().context("an empty line")?;
    Ok(u64::from_str_radix(start.trim_start_matches("0x"), 16)?)
}

#[lab_guest::test]
fn the_module_reports_its_version_and_state() -> Result<()> {
    let module = Loaded::with("")?;
    lifecycle::check_loaded(MODULE, VERSION)?;
    module.unload()
}

#[lab_guest::test]
fn the_module_survives_100_cycles_of_load_and_unload() -> Result<()> {
    kmod::modprobe("uio")?;
    lifecycle::cycle(MODULE, VERSION, 100)
}

#[lab_guest::test(stress = true, timeout = 1800)]
fn the_module_survives_1000_cycles_of_load_and_unload() -> Result<()> {
    kmod::modprobe("uio")?;
    lifecycle::cycle(MODULE, VERSION, 1000)
}

#[lab_guest::test]
fn the_module_answers_to_the_names_of_the_old_drivers_and_has_five_described_parameters() -> Result<()> {
    let path = kmod::path_of(MODULE)?;
    let path = path.to_string_lossy();
    let aliases = sys::output("modinfo", &["-F", "alias", &path])?;
    for alias in ["dsmil-84dev", "dsmil-72dev"] {
        ensure!(
            aliases.lines().any(|line| line == alias),
            "{alias} is not among the aliases:\n{aliases}"
        );
    }
    let parameters = sys::output("modinfo", &["-F", "parm", &path])?;
    let mut names: Vec<&str> = parameters.lines().filter_map(|line| line.split(':').next()).collect();
    names.sort_unstable();
    ensure!(names == ["base", "debug", "irq", "ports", "size"], "{parameters}");
    Ok(())
}

#[lab_guest::test(ivshmem = true)]
fn all_ninety_chunks_of_the_bar_are_where_they_belong() -> Result<()> {
    let module = Loaded::with("debug=1")?;
    let device = open(&uio()?)?;
    for chunk in 0..CHUNKS {
        let mapping = Mapping::of_uio(device.as_fd(), (chunk + 1) * CHUNK_SIZE, CHUNK_SIZE)?;
        mapping.write(0, chunk as u64 + 1).context("the chunk's first word")?;
        mapping
            .write(CHUNK_SIZE - 8, !(chunk as u64))
            .context("the chunk's last word")?;
    }
    let whole = Mapping::of_file(device.as_fd(), 0, REGION_SIZE)?;
    for chunk in 0..CHUNKS {
        let (first, last) = (whole.read(chunk * CHUNK_SIZE), whole.read((chunk + 1) * CHUNK_SIZE - 8));
        ensure!(
            first == Some(chunk as u64 + 1) && last == Some(!(chunk as u64)),
            "chunk {chunk}: {first:x?} {last:x?}"
        );
    }
    drop((whole, device));
    module.unload()
}

#[lab_guest::test(ivshmem = true)]
fn more_than_the_region_and_private_copies_cannot_be_mapped() -> Result<()> {
    let module = Loaded::with("")?;
    let device = open(&uio()?)?;
    ensure!(
        Mapping::of_file(device.as_fd(), 0, REGION_SIZE + 4096).is_err(),
        "more than the region was mapped"
    );
    for map in 2..6 {
        ensure!(
            Mapping::of_file(device.as_fd(), map * 4096, 4096).is_err(),
            "map {map}, which is not there, was mapped"
        );
    }
    drop(device);
    // What user space sees of a copy-on-write mapping would be a copy, not the device.
    let script = "import mmap, os, sys\ntry:\n    mmap.mmap(os.open(sys.argv[1], os.O_RDWR), 4096, mmap.MAP_PRIVATE)\nexcept OSError as error:\n    print(error.strerror)";
    let said = sys::output("python3", &["-c", script, &uio()?.to_string_lossy()])?;
    ensure!(said.trim() == "Invalid argument", "a private mapping: {said:?}");
    module.unload()
}

#[lab_guest::test(ivshmem = true)]
fn one_process_at_a_time_has_the_device_open() -> Result<()> {
    let module = Loaded::with("")?;
    let path = uio()?;
    let device = open(&path)?;
    let second = open(&path).err().context("it was opened twice")?;
    ensure!(second.kind() == std::io::ErrorKind::ResourceBusy, "{second}");
    drop(device);
    drop(open(&path)?);
    module.unload()
}

#[lab_guest::test(ivshmem = true)]
fn a_device_that_is_unbound_while_it_is_mapped_reads_as_all_ones_and_harms_nobody() -> Result<()> {
    let module = Loaded::with("")?;
    let (path, pci) = (uio()?, pci()?);
    let device = open(&path)?;
    let touched = Mapping::of_uio(device.as_fd(), 3 * CHUNK_SIZE, CHUNK_SIZE)?;
    let untouched = Mapping::of_uio(device.as_fd(), 4 * CHUNK_SIZE, CHUNK_SIZE)?;
    touched.write(8, 0x5555_u32).context("writing")?;
    sys::write(format!("{DRIVER}/unbind"), &pci)?;
    ensure!(
        touched.read::<u32>(8) == Some(u32::MAX),
        "a page that was mapped still shows the device"
    );
    ensure!(
        untouched.read::<u32>(8) == Some(u32::MAX),
        "a page that was not mapped shows something else"
    );
    touched.write(8, 0_u32).context("writing to a device that is gone")?;
    ensure!(
        Mapping::of_file(device.as_fd(), 0, 4096).is_err(),
        "a device that is gone was mapped"
    );
    ensure!(
        kmod::unload(MODULE).is_err(),
        "the module went while its code was mapped"
    );
    sys::write(format!("{DRIVER}/bind"), &pci)?;
    let again = open(&uio()?)?;
    let mapping = Mapping::of_uio(again.as_fd(), 3 * CHUNK_SIZE, CHUNK_SIZE)?;
    ensure!(
        mapping.read::<u32>(8) == Some(0x5555),
        "what was written after the removal reached the device"
    );
    drop((touched, untouched, device, mapping, again));
    module.unload()
}

#[lab_guest::test(ivshmem = true)]
fn a_device_that_is_removed_from_the_bus_while_it_is_mapped_returns_with_a_rescan() -> Result<()> {
    let module = Loaded::with("")?;
    let pci = pci()?;
    let device = open(&uio()?)?;
    let mapping = Mapping::of_uio(device.as_fd(), CHUNK_SIZE, CHUNK_SIZE)?;
    mapping.write(16, 7_u32).context("writing")?;
    sys::write(format!("/sys/bus/pci/devices/{pci}/remove"), "1")?;
    ensure!(
        mapping.read::<u32>(16) == Some(u32::MAX),
        "a device that is gone still shows"
    );
    no_uio()?;
    sys::write("/sys/bus/pci/rescan", "1")?;
    drop((mapping, device));
    let device = open(&uio()?)?;
    let mapping = Mapping::of_uio(device.as_fd(), CHUNK_SIZE, CHUNK_SIZE)?;
    ensure!(mapping.read::<u32>(16) == Some(7), "it is another device");
    drop((mapping, device));
    module.unload()
}

fn bind_and_unbind(cycles: u32) -> Result<()> {
    let module = Loaded::with("")?;
    let pci = pci()?;
    let cycle = |open_it: bool| -> Result<()> {
        let device = if open_it { Some(open(&uio()?)?) } else { None };
        let mapping = device
            .as_ref()
            .map(|device| Mapping::of_uio(device.as_fd(), CHUNK_SIZE, CHUNK_SIZE))
            .transpose()?;
        if let Some(mapping) = &mapping {
            mapping.write(0, 1_u32).context("writing")?;
        }
        sys::write(format!("{DRIVER}/unbind"), &pci)?;
        no_uio()?;
        drop((mapping, device));
        sys::write(format!("{DRIVER}/bind"), &pci)
    };
    for number in 0..10 {
        cycle(number % 2 == 0)?;
    }
    let check = sys::LeakCheck::start()?;
    for number in 0..cycles {
        cycle(number % 2 == 0).with_context(|| format!("cycle {number}"))?;
    }
    check.finish().with_context(|| format!("after {cycles} cycles"))?;
    module.unload()
}

#[lab_guest::test(ivshmem = true)]
fn the_device_survives_30_cycles_of_bind_and_unbind() -> Result<()> {
    bind_and_unbind(30)
}

#[lab_guest::test(ivshmem = true, stress = true, timeout = 1800)]
fn the_device_survives_1000_cycles_of_bind_and_unbind() -> Result<()> {
    bind_and_unbind(1000)
}

#[lab_guest::test]
fn a_platform_region_in_ram_is_refused_unless_told_otherwise() -> Result<()> {
    let iomem = sys::read("/proc/iomem")?;
    let line = iomem
        .lines()
        .rev()
        .find(|line| line.ends_with(": System RAM"))
        .context("this machine has no RAM")?;
    let start = u64::from_str_radix(line.trim().split('-').next().context("no range")?, 16)?;
    let base = start.next_multiple_of(4096);
    let describe = |debug: u32| format!("base={base:#x} size=0x10000 debug={debug}");
    ensure!(Loaded::with(&describe(0)).is_err(), "RAM was bound");
    ensure!(!kmod::is_loaded(MODULE), "a module that refused is loaded");
    let module = Loaded::with(&describe(2))?;
    ensure!(
        sys::read(format!(
            "/sys/class/uio/{}/maps/map0/size",
            uio()?.file_name().context("no name")?.to_string_lossy()
        ))? == "0x0000000000010000"
    );
    module.unload()
}

#[lab_guest::test(ivshmem = true)]
fn a_platform_region_that_somebody_claimed_is_refused() -> Result<()> {
    let iomem = sys::read("/proc/iomem")?;
    let claimed = iomem.lines().find(|line| line.ends_with(": virtio-pci-modern"));
    let range = claimed.context("no driver has claimed anything")?.trim();
    let start = range.split('-').next().context("no range")?;
    let taken = format!("base=0x{start} size=0x1000");
    ensure!(
        Loaded::with(&taken).is_err(),
        "what virtio has claimed was bound: {range}"
    );
    for nonsense in [
        "base=0x1001 size=0x1000",
        "base=0x10000 size=0",
        "base=0xfffffffffffff000 size=0x2000",
        "base=0x10000 irq=-4",
        "base=0x10000 ports=5",
    ] {
        ensure!(Loaded::with(nonsense).is_err(), "{nonsense} was bound");
        ensure!(!kmod::is_loaded(MODULE), "a module that refused is loaded");
    }
    Ok(())
}

#[lab_guest::test(ivshmem = true)]
fn a_platform_device_with_ports_is_described_by_parameters() -> Result<()> {
    // The BAR as a plain region: nobody has claimed it before the PCI half of the module would, and that is refused then.
    let base = bar()?;
    let module = Loaded::with(&format!("base={base:#x} ports=0x5658,2"))?;
    let path = uio()?;
    let class = Path::new("/sys/class/uio").join(path.file_name().context("no name")?);
    ensure!(sys::read(class.join("name"))? == "dsmil-84dev");
    ensure!(sys::read(class.join("version"))? == VERSION);
    ensure!(sys::read(class.join("portio/port0/start"))? == "0x5658");
    let transport = dsmil::transport::Uio::open(&path)?;
    ensure!(
        transport.ports().len() == 1 && transport.ports()[0].count == 2,
        "{:?}",
        transport.ports()
    );
    ensure!(
        dsmil::transport::Transport::interrupt(&transport).is_none(),
        "an interrupt that was not described"
    );
    drop(transport);
    module.unload()
}
