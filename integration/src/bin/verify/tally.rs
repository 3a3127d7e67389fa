//! Reads what test programs print.

use std::fmt;

/// Sums over all test programs.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Ran and were right.
    pub passed: usize,
    /// Ran and were wrong.
    pub failed: usize,
    /// Could not run here.
    pub skipped: usize,
    /// Within the output of tests that passed?
    quiet: bool,
    /// Tests of the running program that said that they skip.
    said: usize,
    /// Has the test whose output is read now said so?
    counted: bool,
}

impl Tally {
    /// Takes a line in; answers with what is to be shown of it.
    pub fn read<'a>(&mut self, line: &'a str) -> Option<&'a str> {
        if let Some(result) = line.strip_prefix("test result: ") {
            self.add(result);
            return Some(line);
        }
        match line {
            "successes:" => self.quiet = true,
            "failures:" => self.quiet = false,
            _ if self.quiet && line.starts_with("---- ") => self.counted = false,
            _ if self.quiet && line.starts_with("skipped: ") => {
                self.said += usize::from(!self.counted);
                self.counted = true;
                return Some(line);
            }
            _ => {}
        }
        (!self.quiet && !line.is_empty()).then_some(line)
    }

    /// `ok. 3 passed; 0 failed; 1 ignored; …`
    fn add(&mut self, result: &str) {
        let number = |word: &str| -> usize {
            let words: Vec<&str> = result
                .split([' ', ';', '.'])
                .filter(|word| !word.is_empty())
                .collect();
            let at = words
                .iter()
                .position(|found| *found == word)
                .and_then(|at| at.checked_sub(1));
            at.and_then(|at| words[at].parse().ok()).unwrap_or(0)
        };
        self.passed += number("passed").saturating_sub(self.said);
        self.failed += number("failed");
        self.skipped += number("ignored") + self.said;
        (self.quiet, self.said, self.counted) = (false, 0, false);
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} passed, {} failed, {} skipped",
            self.passed, self.failed, self.skipped
        )
    }
}

#[cfg(test)]
mod tests;
