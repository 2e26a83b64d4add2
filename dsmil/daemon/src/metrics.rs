// SPDX-License-Identifier: MIT OR Apache-2.0

//! The driver's figures as Prometheus reads them.

use std::fmt::Write;

use dsmil::driver::Telemetry;
use dsmil::thermal::Sensor;

/// The text; all figures but `dsmil_clients` are absent before a device was seen.
#[expect(clippy::too_many_lines, reason = "one table")]
pub(crate) fn text(telemetry: &Telemetry, sensors: &[Sensor], clients: usize) -> String {
    let smi = &telemetry.smi;
    let flag = |value: bool| f64::from(u8::from(value));
    // Counts are far below 2^52, where f64 stops being exact.
    #[expect(clippy::cast_precision_loss, reason = "see above")]
    let count = |value: u64| value as f64;
    let size = |value: usize| count(value as u64);
    let rows: [(&str, &str, &str, f64); 20] = [
        ("dsmil_up", "gauge", "Whether the device is there", flag(telemetry.link)),
        (
            "dsmil_stopped",
            "gauge",
            "Whether the emergency stop is in force",
            flag(telemetry.stopped),
        ),
        (
            "dsmil_suspended",
            "gauge",
            "Whether the device is suspended",
            flag(telemetry.suspended),
        ),
        (
            "dsmil_firmware_hung",
            "gauge",
            "Whether the firmware is given up for now",
            flag(telemetry.hung),
        ),
        (
            "dsmil_thermal_level",
            "gauge",
            "0 normal, 1 warm, 2 critical, 3 emergency",
            f64::from(telemetry.level as u8),
        ),
        (
            "dsmil_devices_present",
            "gauge",
            "Devices that are there",
            size(telemetry.present),
        ),
        (
            "dsmil_devices_active",
            "gauge",
            "Devices in use",
            size(telemetry.active),
        ),
        (
            "dsmil_chunks_mapped",
            "gauge",
            "Chunks mapped now",
            size(telemetry.chunks_mapped),
        ),
        (
            "dsmil_chunk_maps_total",
            "counter",
            "Chunks mapped so far",
            count(telemetry.chunk_maps),
        ),
        (
            "dsmil_chunk_evictions_total",
            "counter",
            "Chunks unmapped to make room",
            count(telemetry.chunk_evictions),
        ),
        (
            "dsmil_smi_submitted_total",
            "counter",
            "Operations accepted",
            count(smi.submitted),
        ),
        (
            "dsmil_smi_succeeded_total",
            "counter",
            "Operations that ended well",
            count(smi.succeeded),
        ),
        (
            "dsmil_smi_failed_total",
            "counter",
            "Operations that ended otherwise",
            count(smi.failed),
        ),
        (
            "dsmil_smi_hangs_total",
            "counter",
            "Attempts without an answer in time",
            count(smi.hangs),
        ),
        (
            "dsmil_smi_late_total",
            "counter",
            "Hangs that were answered after all",
            count(smi.late),
        ),
        (
            "dsmil_smi_corrupt_total",
            "counter",
            "Damaged answers",
            count(smi.corrupt),
        ),
        (
            "dsmil_smi_retries_total",
            "counter",
            "Further attempts",
            count(smi.retries),
        ),
        (
            "dsmil_smi_resets_total",
            "counter",
            "Resets of the mailbox",
            count(smi.resets),
        ),
        (
            "dsmil_smi_hang_lateness_seconds_max",
            "gauge",
            "The longest time between a deadline and its being noticed",
            smi.hang_lateness_max.as_secs_f64(),
        ),
        ("dsmil_clients", "gauge", "Clients that are connected", size(clients)),
    ];
    let mut text = String::new();
    for (name, kind, help, value) in rows {
        // Writing to a string cannot fail.
        let _always = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
    }
    text.push_str("# HELP dsmil_temperature_celsius Temperature by sensor\n# TYPE dsmil_temperature_celsius gauge\n");
    for (number, sensor) in sensors.iter().enumerate().filter(|(_, sensor)| sensor.trusted) {
        let degrees = f64::from(sensor.reading.temperature) / 1000.0;
        let _always = writeln!(text, "dsmil_temperature_celsius{{sensor=\"{number}\"}} {degrees}");
    }
    text
}
