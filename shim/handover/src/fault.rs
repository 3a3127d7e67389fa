//! Places where tests break things, on both sides, in the daemon and in the shim.
//!
//! Nothing happens unless the environment variable [`DIRECTORY`] names a folder that holds a
//! file of the point's name. The file's content says what to do: `kill` (the file is removed,
//! then the process kills itself with SIGKILL), `error` ([`Injected`] is returned as long as
//! the file exists), `error-once` (the same, once) or `pause` (the caller's thread waits until
//! the file is gone). To order a pause and learn that it was reached: a paused point makes a
//! file `<point>.reached` next to it.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;
use std::{env, fs, process, thread};

/// The environment variable that names the folder.
pub const DIRECTORY: &str = "MYCEDRIVE_FAULT_DIR";

/// How often a paused point looks whether its file is gone.
const GLANCE: Duration = Duration::from_millis(10);

/// The error that a test ordered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("fault point {0}: the test that armed it ordered this error")]
pub struct Injected(pub &'static str);

macro_rules! points {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// A step of a migration at which a test can interfere. Names begin with the side;
        /// those that the shim passes with `shim-`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum FaultPoint { $($(#[$doc])* $variant,)* }

        impl FaultPoint {
            /// Every point, in the order of a migration, source first.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The point's name: the file that arms it.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

points! {
    /// Daemon A: `Open` was received, nothing checked.
    SourceBeforeOpen = "source-before-open",
    /// Daemon A: the migration is in the journal.
    SourceAfterOpenRecorded = "source-after-open-recorded",
    /// Daemon A: a round was asked for.
    SourceBeforeCopy = "source-before-copy",
    /// Daemon A: some blocks of a round were sent.
    SourceDuringCopy = "source-during-copy",
    /// Daemon A: a round is over.
    SourceAfterCopy = "source-after-copy",
    /// Daemon A: the freeze was asked for.
    SourceBeforeFreezeRecorded = "source-before-freeze-recorded",
    /// Daemon A: `Freezing` is durable, the shim was not asked.
    SourceBeforeFreeze = "source-before-freeze",
    /// Daemon A: the pod is frozen.
    SourceAfterFreeze = "source-after-freeze",
    /// Daemon A: the shim is about to be asked to dump.
    SourceBeforeDump = "source-before-dump",
    /// Daemon A: images are on their way.
    SourceDuringImages = "source-during-images",
    /// Daemon A: the dump is over.
    SourceAfterDump = "source-after-dump",
    /// Daemon A: the final changes of the trees are about to be sent.
    SourceBeforeFinalTrees = "source-before-final-trees",
    /// Daemon A: everything but the end mark was sent.
    SourceBeforeFinalEnd = "source-before-final-end",
    /// Daemon A: everything was sent.
    SourceAfterFinal = "source-after-final",
    /// Daemon A: an offer was received, not recorded.
    SourceBeforeOfferRecorded = "source-before-offer-recorded",
    /// Daemon A: the offer is durable, the destination not answered.
    SourceAfterOfferRecorded = "source-after-offer-recorded",
    /// Daemon A: the destination's decision was received, not recorded.
    SourceBeforeConcludeRecorded = "source-before-conclude-recorded",
    /// Daemon A: `Committed` is durable, nothing discarded.
    SourceAfterCommitRecorded = "source-after-commit-recorded",
    /// Daemon A: the shim discarded, `Done` is not recorded.
    SourceAfterDiscard = "source-after-discard",
    /// Daemon A: about to ask the shim to thaw.
    SourceBeforeResume = "source-before-resume",
    /// Daemon A: thawed, `RolledBack` not recorded.
    SourceAfterResume = "source-after-resume",
    /// Daemon A: the destination dialled the relay.
    SourceRelayStart = "source-relay-start",
    /// Shim A: about to lock the network.
    ShimSourceBeforeLock = "shim-source-before-lock",
    /// Shim A: locked, not frozen.
    ShimSourceAfterLock = "shim-source-after-lock",
    /// Shim A: frozen, the daemon not answered.
    ShimSourceAfterFreeze = "shim-source-after-freeze",
    /// Shim A: about to dump.
    ShimSourceBeforeDump = "shim-source-before-dump",
    /// Shim A: dumped, the daemon not answered.
    ShimSourceAfterDump = "shim-source-after-dump",
    /// Shim A: about to thaw.
    ShimSourceBeforeResume = "shim-source-before-resume",
    /// Shim A: thawed, the daemon not answered.
    ShimSourceAfterResume = "shim-source-after-resume",
    /// Shim A: about to discard.
    ShimSourceBeforeDiscard = "shim-source-before-discard",
    /// Shim A: killed, not yet held.
    ShimSourceDuringDiscard = "shim-source-during-discard",
    /// Shim A: held, the daemon not answered.
    ShimSourceAfterDiscard = "shim-source-after-discard",
    /// Daemon B: the migration is in the journal, the source not asked.
    DestinationAfterOpenRecorded = "destination-after-open-recorded",
    /// Daemon B: the source authorised.
    DestinationAfterOpen = "destination-after-open",
    /// Daemon B: some blocks of a round were written.
    DestinationDuringCopy = "destination-during-copy",
    /// Daemon B: the rounds are over.
    DestinationAfterCopy = "destination-after-copy",
    /// Daemon B: old addresses adopted.
    DestinationAfterAdopt = "destination-after-adopt",
    /// Daemon B: about to ask for the freeze.
    DestinationBeforeFreeze = "destination-before-freeze",
    /// Daemon B: some of the final round was written.
    DestinationDuringImages = "destination-during-images",
    /// Daemon B: the final round is here and verified.
    DestinationAfterVerify = "destination-after-verify",
    /// Daemon B: about to offer.
    DestinationBeforeOffer = "destination-before-offer",
    /// Daemon B: the offer was accepted.
    DestinationAfterOffer = "destination-after-offer",
    /// Daemon B: about to ask the shim to restore.
    DestinationBeforeRestore = "destination-before-restore",
    /// Daemon B: restored, stopped.
    DestinationAfterRestore = "destination-after-restore",
    /// Daemon B: decided, `RUN` not recorded.
    DestinationBeforeRunRecorded = "destination-before-run-recorded",
    /// Daemon B: `RUN` is durable, the shim not asked.
    DestinationBeforeRun = "destination-before-run",
    /// Daemon B: the processes run, not recorded.
    DestinationAfterRun = "destination-after-run",
    /// Daemon B: `Running` is durable, the source not told.
    DestinationBeforeConclude = "destination-before-conclude",
    /// Daemon B: the source acknowledged, not recorded.
    DestinationAfterConclude = "destination-after-conclude",
    /// Daemon B: about to dial the relay.
    DestinationRelayStart = "destination-relay-start",
    /// Daemon B: `ABORT` is durable, nothing undone.
    DestinationAfterAbortRecorded = "destination-after-abort-recorded",
    /// Daemon B: the shim has undone everything, not recorded.
    DestinationAfterUndo = "destination-after-undo",
    /// Shim B: about to lock and take the old addresses.
    ShimDestinationBeforeAdopt = "shim-destination-before-adopt",
    /// Shim B: adopted, the daemon not answered.
    ShimDestinationAfterAdopt = "shim-destination-after-adopt",
    /// Shim B: the trees are in place, the runtime of an early restore has not begun.
    ShimDestinationDuringBegin = "shim-destination-during-begin",
    /// Shim B: a restore has begun, its image is on its way.
    ShimDestinationAfterBegin = "shim-destination-after-begin",
    /// Shim B: about to restore.
    ShimDestinationBeforeRestore = "shim-destination-before-restore",
    /// Shim B: some containers are restored, some not.
    ShimDestinationDuringRestore = "shim-destination-during-restore",
    /// Shim B: restored, the daemon not answered.
    ShimDestinationAfterRestore = "shim-destination-after-restore",
    /// Shim B: about to let the processes go.
    ShimDestinationBeforeRun = "shim-destination-before-run",
    /// Shim B: they run, the network is locked.
    ShimDestinationDuringRun = "shim-destination-during-run",
    /// Shim B: they run and are open, the daemon not answered.
    ShimDestinationAfterRun = "shim-destination-after-run",
    /// Shim B: about to undo.
    ShimDestinationBeforeUndo = "shim-destination-before-undo",
    /// Shim B: undone, the daemon not answered.
    ShimDestinationAfterUndo = "shim-destination-after-undo",
}

/// The folder with the files that arm points; `None` outside tests.
pub fn directory() -> Option<&'static Path> {
    static FOLDER: OnceLock<Option<PathBuf>> = OnceLock::new();
    FOLDER
        .get_or_init(|| env::var_os(DIRECTORY).map(PathBuf::from))
        .as_deref()
}

/// Does what the point's file says; without one, nothing. A `pause` blocks the thread: in
/// async code call this on a thread that may block, when [`directory`] is set.
///
/// # Errors
/// [`Injected`] when the file says `error`.
pub fn hit(point: FaultPoint) -> Result<(), Injected> {
    match directory() {
        Some(folder) => hit_in(folder, point),
        None => Ok(()),
    }
}

fn hit_in(folder: &Path, point: FaultPoint) -> Result<(), Injected> {
    let name = point.name();
    let file = folder.join(name);
    let Ok(order) = fs::read_to_string(&file) else {
        return Ok(());
    };
    let order = order.trim();
    tracing::warn!(point = name, order, "fault point");
    match order {
        "kill" => {
            forget(&file);
            kill_self()
        }
        "error" => Err(Injected(name)),
        "error-once" => {
            forget(&file);
            Err(Injected(name))
        }
        "pause" => {
            let reached = folder.join(format!("{name}.reached"));
            if let Err(error) = fs::write(&reached, "") {
                tracing::warn!(point = name, %error, "fault point: cannot say that it is reached");
            }
            while file.exists() {
                thread::sleep(GLANCE);
            }
            Ok(())
        }
        _ => {
            tracing::warn!(point = name, order, "fault point: unknown order, ignored");
            Ok(())
        }
    }
}

fn forget(file: &Path) {
    if let Err(error) = fs::remove_file(file) {
        tracing::warn!(file = %file.display(), %error, "fault point: cannot disarm");
    }
}

/// SIGKILL to this process, so that no handler, destructor or flush runs.
fn kill_self() -> ! {
    // SAFETY: getpid and kill take no pointers; SIGKILL to our own pid cannot fail or return.
    unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    process::abort()
}

#[cfg(test)]
mod tests;
