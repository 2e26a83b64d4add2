// SPDX-License-Identifier: MIT OR Apache-2.0

//! The DSMIL library for C: `libdsmil.so.1`, `libdsmil.a`, `include/dsmil.h`.
//!
//! The eight functions have the names, types and numbers that callers of the old kernel driver know. They may be called
//! from any thread. Errors are negative errno values; a panic, which would be a bug, ends in `-EIO` and not in the
//! caller. No pointer that is null or not aligned is written through.
//!
//! The device is the one that `dsmild` serves; `DSMIL_DEVICE` names another way to one:
//!
//! | value | meaning |
//! |---|---|
//! | not set, or `unix:` and a path | `dsmild`, at that socket or where it is by default |
//! | `sim:` and a path | a simulator, driven by this process |
//! | `/dev/uioN` | a device, driven by this process |
//!
//! - [`backend`]: those ways behind one interface. [`library`]: the state behind the functions.

mod backend;
mod library;

use std::ffi::c_int;
use std::panic::{AssertUnwindSafe, catch_unwind};

use dsmil::registry::State;

use crate::library::LIBRARY;

/// A device, as `rust_dsmil_create_device` describes it.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CDeviceInfo {
    /// Its group, 0 to 6.
    pub group_id: u8,
    /// Its position in the group, 0 to 11.
    pub device_id: u8,
    /// Its number among all, 0 to 83.
    pub global_id: u8,
    /// 0 offline, 1 initializing, 2 ready, 3 active, 4 error, 5 locked.
    pub state: u8,
}

const _: () = assert!(size_of::<CDeviceInfo>() == 4 && align_of::<CDeviceInfo>() == 1);

/// An errno as these functions return it.
pub(crate) type Code = c_int;

const EIO: Code = 5;
const EINVAL: Code = 22;

/// Runs a body whose error is an errno; nothing that happens in it unwinds into C.
fn guarded(body: impl FnOnce() -> Result<(), Code>) -> Code {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => 0,
        Ok(Err(errno)) => -errno,
        Err(_panic) => -EIO,
    }
}

/// Whether something can be written through the pointer, as far as its value tells.
fn is_plausible<T>(pointer: *mut T) -> bool {
    !pointer.is_null() && pointer.is_aligned()
}

/// Connects to the device. `enable_smi` says whether SMI operations are wanted; without, they fail with `-EOPNOTSUPP`.
///
/// Returns 0; `-EALREADY` if it was called before and `rust_dsmil_cleanup` was not; or another negative errno.
#[unsafe(no_mangle)]
pub extern "C" fn rust_dsmil_init(enable_smi: bool) -> c_int {
    guarded(|| LIBRARY.init(enable_smi))
}

/// Disconnects. Does nothing if there is no connection. Operations of other threads end with an error.
#[unsafe(no_mangle)]
pub extern "C" fn rust_dsmil_cleanup() {
    guarded(|| {
        LIBRARY.cleanup();
        Ok(())
    });
}

/// Puts a device in use and describes it in `*info`, which is not written to when the call fails.
///
/// Returns 0; `-EINVAL` if there is no such device or `info` cannot be a pointer; `-EBUSY` if the device's state does
/// not allow it; or another negative errno.
///
/// # Safety
///
/// `info` must be null or point to a `CDeviceInfo` that may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rust_dsmil_create_device(group_id: u8, device_id: u8, info: *mut CDeviceInfo) -> c_int {
    guarded(|| {
        if !is_plausible(info) {
            return Err(EINVAL);
        }
        let (number, state): (u8, State) = LIBRARY.with(|backend| backend.activate(group_id, device_id))?;
        let device = CDeviceInfo {
            group_id,
            device_id,
            global_id: number,
            state: state as u8,
        };
        // SAFETY: not null, aligned, and the caller vouches for the rest.
        unsafe { info.write(device) };
        Ok(())
    })
}

/// Reads the token at a position (0 power, 1 memory, 2 storage, 3 sensors) of a group into `*data`, which is not
/// written to when the call fails.
///
/// Returns 0; `-EINVAL` if there is no such token or `data` cannot be a pointer; `-ETIMEDOUT` if the firmware does not
/// answer; `-ECANCELED` after an emergency stop; or another negative errno.
///
/// # Safety
///
/// `data` must be null or point to a word that may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rust_dsmil_smi_read_token(position: u8, group_id: u8, data: *mut u32) -> c_int {
    guarded(|| {
        if !is_plausible(data) {
            return Err(EINVAL);
        }
        let value = LIBRARY.with(|backend| backend.read_token(position, group_id))?;
        // SAFETY: not null, aligned, and the caller vouches for the rest.
        unsafe { data.write(value) };
        Ok(())
    })
}

/// Writes the token at a position of a group, whose region must be unlocked.
///
/// Returns 0; `-EACCES` if the region is locked; or what `rust_dsmil_smi_read_token` returns.
#[unsafe(no_mangle)]
pub extern "C" fn rust_dsmil_smi_write_token(position: u8, group_id: u8, data: u32) -> c_int {
    guarded(|| LIBRARY.with(|backend| backend.write_token(position, group_id, data)))
}

/// Unlocks the region that holds an address.
///
/// Returns 0; `-EINVAL` if the address is not the device's; or what `rust_dsmil_smi_read_token` returns.
#[unsafe(no_mangle)]
pub extern "C" fn rust_dsmil_smi_unlock_region(base_addr: u64) -> c_int {
    guarded(|| LIBRARY.with(|backend| backend.unlock(base_addr)))
}

/// Has the firmware check all tokens.
///
/// Returns 0 if they are good; or what `rust_dsmil_smi_read_token` returns.
#[unsafe(no_mangle)]
pub extern "C" fn rust_dsmil_smi_verify() -> c_int {
    guarded(|| LIBRARY.with(|backend| backend.verify()))
}

/// How many devices are in use; 0 also without a connection.
#[unsafe(no_mangle)]
pub extern "C" fn rust_dsmil_get_total_active_devices() -> u16 {
    let mut active = 0;
    let code = guarded(|| {
        active = LIBRARY.with(|backend| backend.active())?;
        Ok(())
    });
    if code == 0 { active } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_ends_in_an_errno() {
        assert_eq!(guarded(|| panic!("as intended")), -EIO);
        assert_eq!(guarded(|| Err(EINVAL)), -EINVAL);
        assert_eq!(guarded(|| Ok(())), 0);
    }

    #[test]
    fn pointers_that_cannot_be_are_told_apart() {
        let mut word = 0_u32;
        let pointer = &raw mut word;
        assert!(is_plausible(pointer));
        assert!(!is_plausible(std::ptr::null_mut::<u32>()));
        assert!(!is_plausible(pointer.wrapping_byte_add(1)));
    }
}
