//! Compares what the receiver has with what the source has, and orders the changes so that each
//! step is possible: park, remove, make directories, unpark, files, links, attributes.

use std::collections::{HashMap, HashSet};

use super::index::{Index, Inode, RelPath};
use super::meta;
use super::scan::{Found, Scan};
use crate::beneath::split;

/// Where an inode's content is at the receiver when files are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Not there yet.
    New,
    /// There, under this name (perhaps after an unpark).
    Known(RelPath),
}

/// An inode that is not a directory, with all its names.
pub(crate) struct Group {
    pub(crate) ino: u64,
    pub(crate) found: Found,
    pub(crate) place: Place,
    /// Every name the source has, sorted.
    pub(crate) paths: Vec<RelPath>,
    /// Those names that the receiver has already (after parks, removals and unparks).
    pub(crate) present: Vec<RelPath>,
    pub(crate) changed: bool,
    /// Its names were seen with different ctimes: it changed while the tree was listed.
    pub(crate) torn: bool,
}

/// The steps of a round.
#[derive(Default)]
pub(crate) struct Plan {
    /// Slot and old name.
    pub(crate) parks: Vec<(u64, RelPath)>,
    /// Whether it is a directory, and its name; children before parents.
    pub(crate) removes: Vec<(bool, RelPath)>,
    /// Parents before children.
    pub(crate) make_dirs: Vec<RelPath>,
    /// Slot and new name.
    pub(crate) unparks: Vec<(u64, RelPath)>,
    pub(crate) groups: Vec<Group>,
    /// Directories whose own attributes changed.
    pub(crate) changed_dirs: HashSet<RelPath>,
    /// Directories of the receiver whose times are altered by the steps above.
    pub(crate) touched: HashSet<RelPath>,
}

impl Plan {
    /// Notes that a name in a directory changes at the receiver.
    pub(crate) fn touch(&mut self, path: &[u8]) {
        let parent = split(path).0;
        if !self.touched.contains(parent) {
            self.touched.insert(parent.into());
        }
    }
}

/// Makes the plan. `force` says which files to compare although their ctime did not change.
pub(crate) fn plan(old: &Index, new: &Scan, force: impl Fn(&[u8], &Found) -> bool) -> Plan {
    let mut plan = Plan::default();
    collect(old, new, &force, &mut plan);
    let parked = park(old, &mut plan);
    removals(old, new, &parked, &mut plan);
    plan
}

/// Whether the receiver's inode can become the source's. Files are compared by content, so any
/// file will do; everything else must be unchanged or is made anew.
fn reusable(known: &Inode, found: &Found) -> bool {
    let stat = &found.stat;
    if known.kind != meta::kind(stat.st_mode) {
        return false;
    }
    meta::is_file(stat.st_mode)
        || (known.device == stat.st_rdev && known.ctime == meta::ctime(stat) && !known.doubtful)
}

/// Whether the name stays what it is at the receiver.
fn stays(old: &Index, path: &[u8], ino: u64, found: &Found) -> bool {
    let Some(known) = old.paths.get(path).and_then(|ino| old.inodes.get(ino)) else {
        return false;
    };
    if meta::is_dir(found.stat.st_mode) {
        return known.kind == libc::S_IFDIR;
    }
    old.paths.get(path) == Some(&ino) && reusable(known, found)
}

fn collect(old: &Index, new: &Scan, force: &impl Fn(&[u8], &Found) -> bool, plan: &mut Plan) {
    let mut groups: HashMap<u64, usize> = HashMap::new();
    for (path, found) in new {
        let ino = found.stat.st_ino;
        if meta::is_dir(found.stat.st_mode) {
            if !stays(old, path, ino, found) {
                if !path.is_empty() {
                    plan.make_dirs.push(path.clone());
                    plan.touch(path);
                }
                plan.changed_dirs.insert(path.clone());
            } else if old.paths.get(path) != Some(&ino) || is_changed(old.inodes.get(&ino), found) {
                plan.changed_dirs.insert(path.clone());
            }
            continue;
        }
        let at = *groups.entry(ino).or_insert_with(|| {
            let known = old.inodes.get(&ino).filter(|known| reusable(known, found));
            plan.groups.push(Group {
                ino,
                found: *found,
                place: Place::New,
                paths: Vec::new(),
                present: Vec::new(),
                changed: is_changed(known, found),
                torn: false,
            });
            plan.groups.len() - 1
        });
        let group = &mut plan.groups[at];
        if stays(old, path, ino, found) {
            if group.place == Place::New {
                group.place = Place::Known(path.clone());
            }
            group.present.push(path.clone());
        }
        group.torn |= meta::ctime(&group.found.stat) != meta::ctime(&found.stat);
        group.changed |= group.torn || force(path, found);
        group.paths.push(path.clone());
    }
}

fn is_changed(known: Option<&Inode>, found: &Found) -> bool {
    known.is_none_or(|known| known.doubtful || known.ctime != meta::ctime(&found.stat))
}

/// Finds inodes that the receiver has under other names only. Returns the old names that are
/// parked.
fn park(old: &Index, plan: &mut Plan) -> HashSet<RelPath> {
    let mut moved: HashMap<u64, usize> = HashMap::new();
    for (at, group) in plan.groups.iter().enumerate() {
        let known = old.inodes.get(&group.ino);
        if group.place == Place::New && known.is_some_and(|known| reusable(known, &group.found)) {
            moved.insert(group.ino, at);
        }
    }
    let mut parked = HashSet::new();
    if moved.is_empty() {
        return parked;
    }
    for (path, ino) in &old.paths {
        let Some(at) = moved.remove(ino) else {
            continue;
        };
        let slot = plan.parks.len() as u64;
        let to = plan.groups[at].paths[0].clone();
        plan.touch(path);
        plan.touch(&to);
        plan.parks.push((slot, path.clone()));
        plan.unparks.push((slot, to.clone()));
        plan.groups[at].place = Place::Known(to.clone());
        plan.groups[at].present.push(to);
        parked.insert(path.clone());
    }
    parked
}

fn removals(old: &Index, new: &Scan, parked: &HashSet<RelPath>, plan: &mut Plan) {
    for (path, ino) in old.paths.iter().rev() {
        let kept = new
            .get(path)
            .is_some_and(|f| stays(old, path, f.stat.st_ino, f));
        if kept || path.is_empty() || parked.contains(path) {
            continue;
        }
        let directory = old
            .inodes
            .get(ino)
            .is_some_and(|known| known.kind == libc::S_IFDIR);
        plan.touch(path);
        plan.removes.push((directory, path.clone()));
    }
}
