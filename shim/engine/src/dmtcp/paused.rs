//! A container that is paused, and checkpointed meanwhile.
//!
//! Processes that their control group has frozen take part in no checkpoint, and once thawed they
//! run until DMTCP has suspended them. Who copies a paused container's files and then its memory,
//! as `ctr containers checkpoint --rw --task` does, would get two moments. So DMTCP suspends them
//! before they are frozen, and a checkpoint only lets them write. If none comes they write
//! nevertheless, when they are resumed ([`Dmtcp::go_on`]).

use std::path::Path;
use std::slice;

use super::migration::failed;
use super::{Dmtcp, gone, lock};
use crate::freezer::{self, Freezer};
use crate::{Connections, EngineError, Target};

impl Dmtcp {
    /// Suspends the container, unless others have processes under the same coordinator: no
    /// checkpoint can be taken of one of them.
    pub(super) async fn before_pause(&self, target: &Target, pid: i32) -> Result<(), EngineError> {
        if !self.others(target).is_empty() {
            return Ok(());
        }
        let only = vec![(target.clone(), pid)];
        self.stop(only, Connections::Close, None).await?;
        if let Some(suspended) = &mut *lock(&self.suspended) {
            suspended.paused = true;
        }
        Ok(())
    }

    /// Lets it go on. Its control group is thawed.
    pub(super) async fn after_pause(&self, target: &Target) -> Result<(), EngineError> {
        if self.is_paused(target) {
            self.go_on().await?;
        }
        Ok(())
    }

    pub(super) fn is_paused(&self, target: &Target) -> bool {
        let suspended = lock(&self.suspended);
        suspended
            .as_ref()
            .is_some_and(|suspended| suspended.paused && suspended.has(target))
    }

    /// A paused container that has ended is not suspended any more.
    pub(super) fn ended_paused(&self, target: &Target) {
        if self.is_paused(target) {
            *lock(&self.suspended) = None;
        }
    }

    /// The image of a suspended container, which is frozen before and after. Nothing else is done
    /// to the pod's processes meanwhile.
    pub(super) async fn take_paused(
        &self,
        target: &Target,
        pid: i32,
        image_dir: &Path,
        exit: bool,
    ) -> Result<(), EngineError> {
        if let Some(suspended) = &mut *lock(&self.suspended) {
            if suspended.writing() {
                let text = "it was checkpointed since it was paused; resume it before the next one";
                return Err(failed(target, text));
            }
            suspended.failed = false;
        }
        let freezer = Freezer::of_process(pid)?;
        let group = slice::from_ref(&freezer);
        freezer::thaw_all(group)?;
        let image = self.image(target, image_dir).await;
        if !gone(pid) {
            freezer::freeze_all(group)?;
        }
        image?;
        if exit {
            freezer.kill_all()?;
            freezer::thaw_all(group)?;
            if let Some(sockets) = self.sockets() {
                sockets.vanish();
            }
        }
        Ok(())
    }
}
