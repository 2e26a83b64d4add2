/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Made from the Rust sources: changes belong there. */

#ifndef DSMIL_H
#define DSMIL_H

#include <stdbool.h>
#include <stdint.h>

/**
 * A device, as `rust_dsmil_create_device` describes it.
 */
struct CDeviceInfo {
        /**
         * Its group, 0 to 6.
         */
        uint8_t group_id;
        /**
         * Its position in the group, 0 to 11.
         */
        uint8_t device_id;
        /**
         * Its number among all, 0 to 83.
         */
        uint8_t global_id;
        /**
         * 0 offline, 1 initializing, 2 ready, 3 active, 4 error, 5 locked.
         */
        uint8_t state;
};

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Connects to the device. `enable_smi` says whether SMI operations are wanted; without, they fail with `-EOPNOTSUPP`.
 *
 * Returns 0; `-EALREADY` if it was called before and `rust_dsmil_cleanup` was not; or another negative errno.
 */
int rust_dsmil_init(bool enable_smi);

/**
 * Disconnects. Does nothing if there is no connection. Operations of other threads end with an error.
 */
void rust_dsmil_cleanup(void);

/**
 * Puts a device in use and describes it in `*info`, which is not written to when the call fails.
 *
 * Returns 0; `-EINVAL` if there is no such device or `info` cannot be a pointer; `-EBUSY` if the device's state does
 * not allow it; or another negative errno.
 *
 * # Safety
 *
 * `info` must be null or point to a `CDeviceInfo` that may be written.
 */
int rust_dsmil_create_device(uint8_t group_id,
                             uint8_t device_id,
                             struct CDeviceInfo *info);

/**
 * Reads the token at a position (0 power, 1 memory, 2 storage, 3 sensors) of a group into `*data`, which is not
 * written to when the call fails.
 *
 * Returns 0; `-EINVAL` if there is no such token or `data` cannot be a pointer; `-ETIMEDOUT` if the firmware does not
 * answer; `-ECANCELED` after an emergency stop; or another negative errno.
 *
 * # Safety
 *
 * `data` must be null or point to a word that may be written.
 */
int rust_dsmil_smi_read_token(uint8_t position,
                              uint8_t group_id,
                              uint32_t *data);

/**
 * Writes the token at a position of a group, whose region must be unlocked.
 *
 * Returns 0; `-EACCES` if the region is locked; or what `rust_dsmil_smi_read_token` returns.
 */
int rust_dsmil_smi_write_token(uint8_t position, uint8_t group_id, uint32_t data);

/**
 * Unlocks the region that holds an address.
 *
 * Returns 0; `-EINVAL` if the address is not the device's; or what `rust_dsmil_smi_read_token` returns.
 */
int rust_dsmil_smi_unlock_region(uint64_t base_addr);

/**
 * Has the firmware check all tokens.
 *
 * Returns 0 if they are good; or what `rust_dsmil_smi_read_token` returns.
 */
int rust_dsmil_smi_verify(void);

/**
 * How many devices are in use; 0 also without a connection.
 */
uint16_t rust_dsmil_get_total_active_devices(void);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* DSMIL_H */
