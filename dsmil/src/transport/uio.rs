// SPDX-License-Identifier: MIT OR Apache-2.0

//! A device behind `uio_dsmil`: `/dev/uioN` and what sysfs says about it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Interrupt, Transport};
use crate::error::{Error, Result};
use crate::layout::{CHUNK_SIZE, REGION_SIZE};
use crate::memory::{Mapping, Source};
use crate::smi::Doorbell;

/// Names that the kernel module gives its devices.
const NAMES: [&str; 2] = ["dsmil-84dev", "dsmil-72dev"];
/// Of the doorbell register, in the BAR that ivshmem defines.
const DOORBELL_OFFSET: usize = 0x0c;
/// Rings peer 0, vector 0.
const DOORBELL_VALUE: u32 = 0;
const PAGE: usize = 4096;

/// A range of I/O ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortRegion {
    /// The first port.
    pub first: u16,
    /// How many.
    pub count: u16,
}

/// See the module.
#[derive(Debug)]
pub struct Uio {
    path: PathBuf,
    device: Arc<File>,
    doorbell: Option<Mapping>,
    has_interrupt: bool,
    ports: Vec<PortRegion>,
}

impl Uio {
    /// Opens a device, whose path may be a link; one at a time may have it open.
    pub fn open(path: &Path) -> Result<Self> {
        let failed = |what: &'static str| move |error: io::Error| Error::system(what, path, &error);
        let device = path.canonicalize().map_err(failed("looking for"))?;
        let node = device.file_name().unwrap_or_default();
        let class = Path::new("/sys/class/uio").join(node);
        let name = read(&class.join("name")).map_err(failed("looking up the UIO device"))?;
        if !NAMES.contains(&name.as_str()) {
            return Err(Error::NotOurs(format!(
                "{} is {name:?}, no DSMIL device: uio_dsmil calls its devices {}",
                path.display(),
                NAMES.join(" or ")
            )));
        }
        let size = map_size(&class, 0).map_err(failed("reading the size of the memory of"))?;
        if size < REGION_SIZE {
            return Err(Error::NotOurs(format!(
                "{} has {size} bytes of memory, not 360 MiB",
                path.display()
            )));
        }
        let device = File::options().read(true).write(true).open(&device);
        let device = device.map_err(failed("opening"))?;
        let doorbell = if class.join("maps/map1").exists() {
            // UIO takes the page offset for the number of the map.
            Some(Mapping::of_file(device.as_fd(), PAGE, PAGE).map_err(failed("mapping the doorbell of"))?)
        } else {
            None
        };
        let transport = Self {
            path: path.to_owned(),
            has_interrupt: rearm(&device).is_ok(),
            device: Arc::new(device),
            doorbell,
            ports: ports(&class),
        };
        Ok(transport)
    }

    /// The device's port regions.
    pub fn ports(&self) -> &[PortRegion] {
        &self.ports
    }
}

impl Doorbell for Uio {
    fn ring(&self) {
        if let Some(doorbell) = &self.doorbell {
            let written = doorbell.write(DOORBELL_OFFSET, DOORBELL_VALUE);
            debug_assert!(written.is_some(), "the doorbell is in its page");
        }
    }
}

impl Transport for Uio {
    fn source(&self) -> Result<Box<dyn Source>> {
        Ok(Box::new(Maps(Arc::clone(&self.device))))
    }

    fn interrupt(&self) -> Option<Interrupt<'_>> {
        self.has_interrupt.then(|| Interrupt {
            fd: self.device.as_fd(),
            width: 4,
        })
    }

    fn rearm(&self) -> Result<()> {
        rearm(&self.device).map_err(|error| Error::system("unmasking the interrupt of", &self.path, &error))
    }

    fn is_gone(&self) -> bool {
        false
    }

    fn describe(&self) -> String {
        self.path.display().to_string()
    }
}

struct Maps(Arc<File>);

impl Source for Maps {
    fn map(&self, index: usize) -> io::Result<Mapping> {
        Mapping::of_uio(self.0.as_fd(), (index + 1) * CHUNK_SIZE, CHUNK_SIZE)
    }
}

fn rearm(mut device: &File) -> io::Result<()> {
    device.write_all(&1_i32.to_ne_bytes())
}

fn read(path: &Path) -> io::Result<String> {
    Ok(fs::read_to_string(path)?.trim_end().to_owned())
}

fn map_size(class: &Path, map: usize) -> io::Result<usize> {
    let text = read(&class.join(format!("maps/map{map}/size")))?;
    let digits = text.strip_prefix("0x").unwrap_or(&text);
    usize::from_str_radix(digits, 16).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// What cannot be read is not offered.
fn ports(class: &Path) -> Vec<PortRegion> {
    let number = |path: PathBuf| {
        let text = read(&path).ok()?;
        u16::from_str_radix(text.strip_prefix("0x")?, 16).ok()
    };
    (0..5)
        .map_while(|index| {
            let region = class.join(format!("portio/port{index}"));
            Some(PortRegion {
                first: number(region.join("start"))?,
                count: number(region.join("size"))?,
            })
        })
        .collect()
}
