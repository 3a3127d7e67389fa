//! What the client saw.

use serde::{Deserialize, Serialize};

/// One answered request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// CLOCK_REALTIME, nanoseconds.
    pub at_ns: u64,
    /// The counter's value.
    pub value: u64,
}

/// Everything one client saw, in order.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Report {
    /// Every answered request.
    pub answers: Vec<Answer>,
    /// Writes that were answered and are missing later.
    pub lost: u64,
    /// Values that the counter went forward without this client (written twice).
    pub doubled: u64,
    /// Requests without a valid answer, broken connections included.
    pub errors: u64,
    /// The first error's text.
    pub first_error: Option<String>,
    /// TCP connections used; 1 when the first one lasted.
    pub connections: u64,
}

/// The longest time without an answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gap {
    /// Milliseconds.
    pub milliseconds: f64,
    /// When the last answer before it came, CLOCK_REALTIME nanoseconds.
    pub from_ns: u64,
}

impl Report {
    /// Counts what is wrong between two answers that follow each other.
    pub(super) fn count_step(&mut self, last: u64, value: u64) {
        let expected = last + 1;
        self.lost += expected.saturating_sub(value);
        self.doubled += value.saturating_sub(expected);
    }

    /// Nothing lost, nothing doubled, no error.
    pub fn is_clean(&self) -> bool {
        self.lost == 0 && self.doubled == 0 && self.errors == 0
    }

    /// The longest gap between two answers of which the later came in `from_ns..=to_ns`.
    pub fn longest_gap(&self, from_ns: u64, to_ns: u64) -> Option<Gap> {
        self.answers
            .windows(2)
            .filter(|pair| (from_ns..=to_ns).contains(&pair[1].at_ns))
            .map(|pair| Gap {
                milliseconds: (pair[1].at_ns - pair[0].at_ns) as f64 / 1e6,
                from_ns: pair[0].at_ns,
            })
            .max_by(|a, b| a.milliseconds.total_cmp(&b.milliseconds))
    }

    /// Answers in `from_ns..to_ns`.
    pub fn operations(&self, from_ns: u64, to_ns: u64) -> usize {
        self.answers
            .iter()
            .filter(|answer| (from_ns..to_ns).contains(&answer.at_ns))
            .count()
    }
}
