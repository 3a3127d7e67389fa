//! Stacks in use on this node: which volume is mounted where, and for which containers.
//!
//! A record for each volume says who uses it. It outlives the shim that made it, so that the shim
//! that cleans up after a killed one, or the node daemon after a reboot, folds the stack back.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use mycedrive_transfer::access::Root;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MntFlags, MsFlags, mount as mount_call, umount2};
use nix::sys::stat::{Mode, mkdirat};
use serde::{Deserialize, Serialize};

use crate::check::{Reason, check};
use crate::error::{Error, Result};
use crate::layout::{Found, Phase, find, recover};
use crate::mount::{directory_holder, is_mounted, mount, unmount};
use crate::{end, init, receive, undisturbed};

/// Where records are kept, and where stacks are mounted.
#[derive(Clone, Debug)]
pub struct Attachments {
    records: PathBuf,
    mounts: PathBuf,
}

/// A container that uses a volume.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct User {
    /// Its pod's sandbox.
    pub sandbox: String,
    /// Its id.
    pub container: String,
}

/// How a volume is to be mounted into a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attached {
    /// From this path: the stack.
    Stack(PathBuf),
    /// As it is, for this reason.
    Plain(String),
}

/// Which volumes become stacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// A plain volume is made a stack, if it can be.
    Stack,
    /// A stack that layers from another node have become is mounted; a plain volume stays plain.
    Received,
}

/// A record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The volume.
    pub volume: PathBuf,
    /// Who uses it.
    pub users: BTreeSet<User>,
}

impl Attachments {
    /// The node's: records in `/var/lib/mycedrive/volumes`, mounts in `/run/mycedrive/volumes`.
    pub fn of_node() -> Self {
        Self::new(
            Path::new("/var/lib/mycedrive/volumes"),
            Path::new("/run/mycedrive/volumes"),
        )
    }

    /// With these folders.
    pub fn new(records: &Path, mounts: &Path) -> Self {
        Self {
            records: records.to_owned(),
            mounts: mounts.to_owned(),
        }
    }

    /// Mounts a volume's stack for `user`, or says why it is to be mounted plainly. What a crash
    /// left of the volume is put right first.
    pub fn attach(&self, volume: &Path, user: &User, want: Want) -> Result<Attached> {
        let locked = self.place(volume).and_then(|place| {
            let lock = place.lock()?;
            Ok((place, lock))
        });
        let (place, _lock) = match locked {
            Ok(locked) => locked,
            // SELinux, say, keeps this program from its folders: a container can do without. Not after
            // an error that another container of the pod may not have: it would not see the same.
            Err(error)
                if want == Want::Stack && error.is_denied() && find(volume)? == Found::Plain =>
            {
                return Ok(Attached::Plain(error.to_string()));
            }
            Err(error) => return Err(error),
        };
        let target = place.target();
        if !is_mounted(&target) {
            if let Some(reason) = place.prepare(want)? {
                place.forget()?;
                return Ok(Attached::Plain(reason));
            }
            place.make_own_group()?;
            crate::layout::make_dir(&target)?;
            place.save(user, true)?;
            if let Err(error) = mount(&place.volume, &target) {
                end(&place.volume, &mut undisturbed)?;
                place.forget()?;
                return Ok(Attached::Plain(error.to_string()));
            }
        }
        place.save(user, true)?;
        Ok(Attached::Stack(target))
    }

    /// A directory of a mounted volume as a mount of its own: a container cannot lead it
    /// elsewhere by putting a symlink in its place. Made if it is missing.
    pub fn directory(&self, volume: &Path, beneath: &Path) -> Result<PathBuf> {
        let place = self.place(volume)?;
        let _lock = place.lock()?;
        let root = Root::open(&place.target()).map_err(Error::tree(volume))?;
        let path = beneath.as_os_str().as_bytes();
        let fail = |errno: Errno| Error::io("open", &place.target().join(beneath))(errno);
        let mut at = Vec::new();
        for name in beneath {
            let parent = root.directory(&at).map_err(fail)?;
            match mkdirat(&parent, name, Mode::from_bits_truncate(0o777)) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(errno) => return Err(fail(errno)),
            }
            at = crate::entries::join(&at, name.as_bytes());
        }
        let opened = root.directory(path).map_err(fail)?;
        let folder = place.mounts.join("beneath");
        crate::layout::make_dir(&folder)?;
        let target = folder.join(&blake3::hash(path).to_hex()[..16]);
        crate::layout::make_dir(&target)?;
        if !is_mounted_beneath(&target) {
            let from = format!("/proc/self/fd/{}", opened.as_raw_fd());
            let none: Option<&str> = None;
            mount_call(Some(from.as_str()), &target, none, MsFlags::MS_BIND, none)
                .map_err(Error::io("mount", &target))?;
        }
        Ok(target)
    }

    /// `user` does not use the volume any more; without users the stack is folded back. True: it
    /// was, or is plain. A volume that is still in use is left for [`Self::sweep`].
    pub fn detach(&self, volume: &Path, user: &User) -> Result<bool> {
        let place = self.place(volume)?;
        let _lock = place.lock()?;
        place.save(user, false)?;
        place.fold_unused()
    }

    /// A stack that was mounted for a restore that is undone: without users its layers are
    /// received ones again, so that the next attempt need not have them sent once more.
    pub fn give_back(&self, volume: &Path, user: &User) -> Result<bool> {
        let place = self.place(volume)?;
        let _lock = place.lock()?;
        place.save(user, false)?;
        if !place.load()?.unwrap_or_default().users.is_empty() {
            return Ok(false);
        }
        place.unmount()?;
        receive::uncommit(&place.volume)?;
        place.forget()?;
        Ok(true)
    }

    /// Sees to it that a volume that nobody uses is a plain directory.
    pub fn make_plain(&self, volume: &Path) -> Result<()> {
        let place = self.place(volume)?;
        let _lock = place.lock()?;
        match place.load()? {
            Some(record) if !record.users.is_empty() => {
                let reason = "another container uses it as a stack";
                Err(Error::state(&place.volume, reason))
            }
            _ => place.fold_unused().map(drop),
        }
    }

    /// Removes everything in a volume that nobody uses; its directory stays.
    pub fn remove_content(&self, volume: &Path) -> Result<()> {
        let place = self.place(volume)?;
        let _lock = place.lock()?;
        let holder = match place.load()? {
            Some(_) => Some("containers of this node".to_owned()),
            None => directory_holder(&place.volume),
        };
        if let Some(holder) = holder {
            return Err(Error::InUse {
                volume: place.volume,
                holder,
            });
        }
        mycedrive_transfer::access::empty(&place.volume).map_err(Error::tree(volume))
    }

    /// What [`Self::detach`] does, for all containers of a pod.
    pub fn detach_pod(&self, sandbox: &str) -> Result<()> {
        self.sweep(&|user: &User| user.sandbox != sandbox)
    }

    /// Drops users that are not `alive` and folds back what nobody uses. Goes on after errors and
    /// returns the last one.
    pub fn sweep(&self, alive: &dyn Fn(&User) -> bool) -> Result<()> {
        let mut result = Ok(());
        for record in self.records() {
            let one = (|| {
                let place = self.place(&record.volume)?;
                let _lock = place.lock()?;
                let Some(mut record) = place.load()? else {
                    return Ok(());
                };
                let before = record.users.len();
                record.users.retain(|user| alive(user));
                if record.users.is_empty() || record.users.len() != before {
                    place.write(&record)?;
                    place.fold_unused()?;
                }
                Ok(())
            })();
            if one.is_err() {
                result = one;
            }
        }
        result
    }

    /// All records.
    pub fn records(&self) -> Vec<Record> {
        let Ok(entries) = fs::read_dir(&self.records) else {
            return Vec::new();
        };
        let texts = entries.flatten().map(|entry| entry.path());
        let texts = texts.filter(|path| path.extension().is_some_and(|end| end == "json"));
        texts
            .filter_map(|path| serde_json::from_slice(&fs::read(path).ok()?).ok())
            .collect()
    }

    /// Where the stack of a volume is mounted, if it is.
    pub fn mounted_at(&self, volume: &Path) -> Option<PathBuf> {
        let target = self.place(volume).ok()?.target();
        is_mounted(&target).then_some(target)
    }

    fn place(&self, volume: &Path) -> Result<Place> {
        // One that kubelet has removed keeps the name that it was recorded under.
        let volume = fs::canonicalize(volume).unwrap_or_else(|_| volume.to_owned());
        let hash = blake3::hash(volume.as_os_str().as_bytes()).to_hex();
        let id = &hash[..16];
        for folder in [&self.records, &self.mounts] {
            fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        }
        Ok(Place {
            record: self.records.join(format!("{id}.json")),
            lock: self.mounts.join(format!("{id}.lock")),
            mounts: self.mounts.join(id),
            volume,
        })
    }
}

/// One volume's files and mount points.
struct Place {
    volume: PathBuf,
    record: PathBuf,
    lock: PathBuf,
    mounts: PathBuf,
}

impl Place {
    fn target(&self) -> PathBuf {
        self.mounts.join("merged")
    }

    fn lock(&self) -> Result<Flock<File>> {
        let file = File::create(&self.lock).map_err(Error::io("create", &self.lock))?;
        Flock::lock(file, FlockArg::LockExclusive)
            .map_err(|(_, errno)| Error::io("lock", &self.lock)(errno))
    }

    /// Makes a stack of the volume that can be mounted, or says why not.
    fn prepare(&self, want: Want) -> Result<Option<String>> {
        let mut found = recover(&self.volume, &mut undisturbed)?;
        if let Found::Stack(state) = found
            && state.phase == Phase::Receive
        {
            // Of a migration that did not come to its end.
            receive::discard(&self.volume)?;
            found = find(&self.volume)?;
        }
        match found {
            Found::Stack(_) => Ok(None),
            Found::Foreign => Ok(Some(Reason::Name.to_string())),
            Found::Plain if want == Want::Received => {
                Ok(Some("it came here as a directory".to_owned()))
            }
            Found::Plain => {
                if let Some(holder) = directory_holder(&self.volume) {
                    return Ok(Some(Reason::InUse(holder).to_string()));
                }
                if let Err(reason) = check(&self.volume) {
                    return Ok(Some(reason.to_string()));
                }
                if let Err(error) = init(&self.volume, &mut undisturbed) {
                    recover(&self.volume, &mut undisturbed)?;
                    return Ok(Some(error.to_string()));
                }
                Ok(None)
            }
        }
    }

    /// What is mounted here is not seen in mount namespaces that are there already. Those that copy
    /// it later, as services of systemd do at their start, lose it when this one unmounts it: a copy
    /// would keep the disk space of removed files.
    fn make_own_group(&self) -> Result<()> {
        crate::layout::make_dir(&self.mounts)?;
        if is_mounted_beneath(&self.mounts) {
            return Ok(());
        }
        let none: Option<&str> = None;
        let fail = || Error::io("mount", &self.mounts);
        mount_call(
            Some(&self.mounts),
            &self.mounts,
            none,
            MsFlags::MS_BIND,
            none,
        )
        .map_err(fail())?;
        mount_call(none, &self.mounts, none, MsFlags::MS_PRIVATE, none).map_err(fail())?;
        mount_call(none, &self.mounts, none, MsFlags::MS_SHARED, none).map_err(fail())
    }

    fn load(&self) -> Result<Option<Record>> {
        match fs::read(&self.record) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            other => {
                let text = other.map_err(Error::io("read", &self.record))?;
                // A record that a power cut left empty says as much as none.
                Ok(serde_json::from_slice(&text).ok())
            }
        }
    }

    fn save(&self, user: &User, uses: bool) -> Result<()> {
        let mut record = self.load()?.unwrap_or_default();
        record.volume.clone_from(&self.volume);
        if uses {
            record.users.insert(user.clone());
        } else {
            record.users.remove(user);
        }
        self.write(&record)
    }

    fn write(&self, record: &Record) -> Result<()> {
        let fail = || Error::io("write", &self.record);
        let fresh = self.record.with_extension("new");
        let text =
            serde_json::to_vec(record).map_err(|error| fail()(std::io::Error::other(error)))?;
        fs::write(&fresh, text).map_err(fail())?;
        fs::rename(&fresh, &self.record).map_err(fail())
    }

    /// Folds the stack back if the record has no users.
    fn fold_unused(&self) -> Result<bool> {
        let record = self.load()?.unwrap_or_default();
        if !record.users.is_empty() {
            return Ok(false);
        }
        self.unmount()?;
        // kubelet has removed the volume of a pod that is gone.
        if self.volume.exists() {
            end(&self.volume, &mut undisturbed)?;
        }
        self.forget()?;
        Ok(true)
    }

    fn unmount(&self) -> Result<()> {
        let beneath = self.mounts.join("beneath");
        for entry in fs::read_dir(&beneath).into_iter().flatten().flatten() {
            let path = entry.path();
            match umount2(&path, MntFlags::UMOUNT_NOFOLLOW) {
                Ok(()) | Err(Errno::EINVAL) => {}
                Err(errno) => return Err(Error::io("unmount", &path)(errno)),
            }
        }
        unmount(&self.volume, &self.target())
    }

    /// Nothing is mounted: no trace stays.
    fn forget(&self) -> Result<()> {
        match umount2(&self.mounts, MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
            Err(errno) => return Err(Error::io("unmount", &self.mounts)(errno)),
        }
        for gone in [
            fs::remove_file(&self.record),
            fs::remove_dir_all(&self.mounts),
        ] {
            if let Err(error) = gone
                && error.kind() != std::io::ErrorKind::NotFound
            {
                return Err(Error::io("remove what is left of", &self.volume)(error));
            }
        }
        Ok(())
    }
}

/// Whether something is mounted here, also if it is of the same file system as what is above.
fn is_mounted_beneath(path: &Path) -> bool {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .any(|point| Path::new(point) == path)
}
