//! Pods that are killed and come back, in the same network and in another one.

use crate::pod::{Folder, LONG, Pod, dmtcp};
use crate::pump::{Pump, read_all};
use crate::support::{Nets, old};
use mycedrive_connection::repair::{Purpose, Saved};
use mycedrive_connection::{Route, Tun};
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

pub struct World {
    pub nets: Nets,
    pub folder: Folder,
    prefix: PathBuf,
}

impl World {
    /// `None`, said aloud, where there is no DMTCP or no right to make networks.
    pub fn new() -> Option<World> {
        Some(World {
            prefix: dmtcp()?,
            nets: Nets::new(),
            folder: Folder::new(),
        })
    }

    pub fn pod(&self) -> Pod<'_> {
        Pod::new(&self.nets.a, &self.folder, &self.prefix)
    }

    /// Kill the pod after a checkpoint, coordinator included, and make it again from the images.
    pub fn here<'a>(&'a self, pod: Pod<'a>) -> Pod<'a> {
        pod.lock_handle().lock_destination().unwrap();
        let (saved, processes) = freeze(&pod);
        drop(pod);
        let pod = self.pod();
        restore(&pod, &saved, processes);
        pod.lock_handle().unlock_destination().unwrap();
        pod
    }

    /// The same, but in the other network, with packets for the old address carried there.
    pub fn there<'a>(&'a self, pod: Pod<'a>) -> (Pod<'a>, Pump) {
        let lock = pod.lock_handle();
        lock.prepare_source(&old()).unwrap();
        let from = File::from(lock.open_tun(Tun::Source).unwrap());
        lock.lock_source(&old()).unwrap();
        let (saved, processes) = freeze(&pod);
        drop(pod);
        let pod = Pod::new(&self.nets.b, &self.folder, &self.prefix);
        let lock = pod.lock_handle();
        lock.lock_destination().unwrap();
        lock.adopt(Route::FIRST, &old(), None).unwrap();
        let to = File::from(lock.open_tun(Tun::Route(Route::FIRST)).unwrap());
        restore(&pod, &saved, processes);
        lock.unlock_destination().unwrap();
        for packet in read_all(&from) {
            let _ = (&to).write_all(&packet);
        }
        (pod, Pump::between(from.into(), to.into()))
    }
}

/// Freeze the pod and let it run on.
pub fn back(pod: &Pod) {
    pod.lock_handle().lock_destination().unwrap();
    pod.helper().begin(Purpose::Move).unwrap();
    pod.checkpoint();
    pod.helper().release().unwrap();
    pod.lock_handle().unlock_destination().unwrap();
}

fn freeze(pod: &Pod) -> (Vec<u8>, usize) {
    pod.helper().begin(Purpose::Move).unwrap();
    let held = pod.checkpoint();
    assert_eq!(held.lost, []);
    let saved = pod.helper().saved();
    pod.helper().vanish();
    (saved, held.processes)
}

fn restore(pod: &Pod, saved: &[u8], processes: usize) {
    pod.helper().restore(Saved::decode(saved).unwrap()).unwrap();
    pod.restart();
    assert_eq!(pod.helper().wait_restored(LONG).unwrap(), processes);
    pod.helper().release().unwrap();
}
