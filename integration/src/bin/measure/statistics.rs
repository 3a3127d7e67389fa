//! Median and spread.

use serde::Serialize;

/// Of one series of measurements.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Summary {
    /// Half of the values are below.
    pub median: f64,
    /// The smallest value.
    pub min: f64,
    /// Nine of ten values are at most this.
    pub p90: f64,
    /// The largest value.
    pub max: f64,
}

impl Summary {
    /// `None` for no values.
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |part: f64| {
            sorted
                .get(((sorted.len() as f64 * part).ceil() as usize).max(1) - 1)
                .copied()
        };
        Some(Self {
            median: at(0.5)?,
            min: *sorted.first()?,
            p90: at(0.9)?,
            max: *sorted.last()?,
        })
    }
}

#[cfg(test)]
mod tests;
