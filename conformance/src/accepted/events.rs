//! Events of two runtimes that differ in what may differ.

use crate::compare::Difference;

/// Sent after a checkpoint.
const CHECKPOINTED: &str = "/tasks/checkpointed";

/// Ends an exit with and one without its time.
const TIMES: [&str; 2] = [", with its time", ", without a time"];

/// The events of one runtime, taken apart.
struct Events<'a> {
    /// How many checkpoints were told.
    checkpoints: usize,
    /// All but the checkpoints.
    others: Vec<&'a str>,
    /// What is left without the last events of tasks.
    middle: Vec<&'a str>,
    /// The last events of tasks: removals, and ends of what was never started, the latter without times.
    ends: Vec<&'a str>,
}

impl<'a> Events<'a> {
    fn of(text: &'a str) -> Self {
        let (mut middle, mut ends, mut others) = (Vec::new(), Vec::new(), Vec::new());
        let mut checkpoints = 0;
        let mut started = false;
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let topic = line.split(' ').next().unwrap_or_default();
            match topic {
                CHECKPOINTED => {
                    checkpoints += 1;
                    continue;
                }
                "/tasks/create" => started = false,
                "/tasks/start" => started = true,
                _ => {}
            }
            others.push(line);
            let unused = !started && line.starts_with("/tasks/exit init");
            if unused {
                let without = TIMES.iter().find_map(|time| line.strip_suffix(time));
                ends.push(without.unwrap_or(line));
            } else if topic == "/tasks/delete" {
                ends.push(line);
            } else {
                middle.push(line);
            }
        }
        Self {
            checkpoints,
            others,
            middle,
            ends,
        }
    }
}

fn both(difference: &Difference) -> [Events<'_>; 2] {
    [&difference.reference, &difference.ours].map(|text| Events::of(text))
}

/// Equal but for what the table names, and ours lacks nothing that the reference has.
pub fn may_differ(difference: &Difference) -> bool {
    let [reference, ours] = both(difference);
    let mut left = ours.ends.clone();
    let complete = reference.ends.iter().all(|end| {
        let found = left.iter().position(|one| one == end);
        found.map(|at| left.swap_remove(at)).is_some()
    });
    reference.middle == ours.middle && complete && reference.checkpoints <= ours.checkpoints
}

/// Ours tells of checkpoints, the reference of none.
pub fn checkpoints_are_told(difference: &Difference) -> bool {
    let [reference, ours] = both(difference);
    reference.checkpoints == 0 && ours.checkpoints > 0
}

/// They differ in the last events of tasks.
pub fn ends_are_whole(difference: &Difference) -> bool {
    let [reference, ours] = both(difference);
    reference.others != ours.others
}
