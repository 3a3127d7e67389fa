//! Durations, sizes and rates as people write them, in the configuration and in annotations.

use std::time::Duration;

/// `300ms`, `1.5s`, `2m`, `1h`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text);
    let seconds = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return Err(bad(text, "a duration such as 300ms, 10s, 2m or 1h")),
    };
    scaled(number, seconds)
        .and_then(|value| Duration::try_from_secs_f64(value).ok())
        .ok_or_else(|| bad(text, "a duration such as 300ms, 10s, 2m or 1h"))
}

/// Bytes: `4096`, `64KiB`, `16MiB`, `2GiB`, also kB, MB, GB.
pub fn size(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text);
    byte_unit(unit)
        .and_then(|factor| whole(scaled(number, factor)?))
        .ok_or_else(|| bad(text, "a size such as 64KiB, 16MiB or 2GiB"))
}

/// Bytes per second from `100mbit`, `1gbit`, `500kbit`, or `10MiB` and the like (per second).
/// `0` and `unlimited` are no limit and give 0.
pub fn rate(text: &str) -> Result<u64, String> {
    if text.trim() == "unlimited" {
        return Ok(0);
    }
    let (number, unit) = split(text);
    let unit = unit.strip_suffix("/s").unwrap_or(unit);
    let bits = match unit.to_ascii_lowercase().as_str() {
        "kbit" => Some(1e3),
        "mbit" => Some(1e6),
        "gbit" => Some(1e9),
        _ => None,
    };
    let factor = bits.map(|bits| bits / 8.0).or_else(|| byte_unit(unit));
    factor
        .and_then(|factor| whole(scaled(number, factor)?))
        .ok_or_else(|| bad(text, "a rate such as 100mbit, 1gbit, 10MiB/s or unlimited"))
}

fn byte_unit(unit: &str) -> Option<f64> {
    Some(match unit {
        "" | "B" => 1.0,
        "kB" | "KB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        "KiB" => 1024.0,
        "MiB" => 1024.0 * 1024.0,
        "GiB" => 1024.0 * 1024.0 * 1024.0,
        _ => return None,
    })
}

fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    (&text[..end], text[end..].trim())
}

fn scaled(number: &str, factor: f64) -> Option<f64> {
    let number: f64 = number.parse().ok()?;
    Some(number * factor)
}

fn whole(value: f64) -> Option<u64> {
    (value.is_finite() && (0.0..=9e15).contains(&value)).then(|| value.round() as u64)
}

fn bad(text: &str, wanted: &str) -> String {
    format!("{text:?} is not {wanted}")
}

/// `87.5 MiB`: for people.
pub fn show_bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{bytes} B")
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

/// `41 ms`, `3.2 s`, `4 m 10 s`: for people.
pub fn show_millis(millis: u64) -> String {
    match millis {
        0..=999 => format!("{millis} ms"),
        1_000..=119_999 => format!("{:.1} s", millis as f64 / 1000.0),
        _ => format!("{} m {} s", millis / 60_000, millis / 1000 % 60),
    }
}

#[cfg(test)]
mod tests;
