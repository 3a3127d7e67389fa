//! Which engine carries a container, and what becomes of it when the engine fails the program.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mycedrive_engine::{Engine, Start};
use tracing::{info, warn};

use super::{Container, Launch, lock};
use crate::error::{Error, Result};
use crate::spec::Spec;
use crate::state::{Exit, State};

/// How long after its start a program that its engine gives up is taken for one that never worked
/// under it.
const EARLY: Duration = Duration::from_secs(10);

/// The engine of a container.
#[derive(Clone, Default)]
pub struct Carrier {
    /// `None`: the container runs, and can be neither checkpointed nor moved.
    pub engine: Option<Arc<dyn Engine>>,
    /// Why not another one; may be empty.
    pub why: String,
    /// For a program that the engine started: how it would start without.
    pub without: Option<Without>,
}

/// A start without the engine.
#[derive(Clone)]
pub struct Without {
    /// The spec before the engine changed it.
    pub spec: Spec,
    /// Who carries it then.
    pub engine: Option<Arc<dyn Engine>>,
}

impl Container {
    /// What carries it.
    pub fn carrier(&self) -> Carrier {
        lock(&self.carrier).clone()
    }

    /// Sets what carries it.
    pub fn set_carrier(&self, carrier: Carrier) {
        *lock(&self.carrier) = carrier;
    }

    /// The engine that carries it, or why there is none.
    pub fn engine(&self) -> Result<Arc<dyn Engine>> {
        let carrier = self.carrier();
        carrier.engine.ok_or_else(|| {
            let why = if carrier.why.is_empty() {
                "it was not started"
            } else {
                &carrier.why
            };
            Error::Precondition(format!(
                "container {}: no engine carries it: {why}",
                self.name
            ))
        })
    }

    /// Makes the init process with `runc create`. The root file system is mounted, the engine
    /// chosen. One that the engine cannot begin with is made without it.
    ///
    /// The caller holds `init.op`.
    pub async fn make_init(self: &Arc<Self>) -> Result<()> {
        let pid = self.launch(Launch::Create).await?;
        let Some(engine) = self.carrier().engine else {
            return Ok(());
        };
        match engine.created(&crate::migration::target(self), pid).await {
            Ok(()) => Ok(()),
            Err(error) => {
                self.forget_init();
                self.kill_all().await?;
                self.make_without(&error.to_string()).await
            }
        }
    }

    /// Makes the init process without the engine that had it.
    async fn make_without(self: &Arc<Self>, reason: &str) -> Result<()> {
        let carrier = self.carrier();
        let Some(without) = carrier.without else {
            return Err(Error::Unavailable(format!(
                "container {}: {reason}",
                self.name
            )));
        };
        if let Some(engine) = &carrier.engine {
            engine.ended(&crate::migration::target(self));
        }
        warn!(id = %self.id, container = %self.name, reason, "made again without its engine");
        // The new streams are opened before the old are closed: no reader sees an end.
        let streams = self.init.take_streams();
        self.delete_from_runc().await?;
        let mut spec = without.spec;
        let mut why = format!("not dmtcp: {reason}");
        let mut fallback = without.engine;
        if let Some(engine) = fallback.clone() {
            let target = crate::migration::target(self);
            if let Err(error) = engine.prepare(&target, spec.json_mut()).await {
                why = format!("{why}; {error}");
                fallback = None;
            }
        }
        spec.save(&self.bundle)?;
        self.set_carrier(Carrier {
            engine: fallback,
            why,
            without: None,
        });
        let made = self.launch(Launch::Create).await;
        if let Some(streams) = streams {
            tokio::spawn(streams.drain());
        }
        made.map(|_| ())
    }

    /// Follows a program that was started under an engine until it is known whether the engine
    /// carries it.
    pub fn follow_start(self: &Arc<Self>) {
        let carrier = self.carrier();
        let (Some(engine), Some(_)) = (carrier.engine, carrier.without) else {
            return;
        };
        *lock(&self.started) = Some(Instant::now());
        *lock(&self.held_output) = crate::io::hold_output(&self.init.stdio);
        let container = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(EARLY).await;
            lock(&container.held_output).clear();
        });
        let (container, pid) = (self.clone(), self.init.pid());
        tokio::spawn(async move {
            let target = crate::migration::target(&container);
            match engine.started(&target, pid).await {
                Ok(Start::Carried) => info!(id = %container.id, "under {}", engine.kind().name()),
                Ok(Start::Ended) => {}
                Ok(Start::NotCarried(reason)) => {
                    warn!(id = %container.id, reason, "not carried by its engine");
                    engine.failed(&target, &reason);
                    container.set_carrier(Carrier {
                        why: format!(
                            "{reason}; restart the container to have it on another engine"
                        ),
                        ..Carrier::default()
                    });
                }
                Err(error) => warn!(id = %container.id, %error, "is it carried by its engine?"),
            }
        });
    }

    /// Starts a program again that died of its engine before it could serve. Whether it runs
    /// now.
    ///
    /// The caller holds `init.op`, and has seen the process end.
    pub(super) async fn rescue(self: &Arc<Self>, exit: Exit) -> bool {
        let carrier = self.carrier();
        let early = lock(&self.started).is_some_and(|at| at.elapsed() < EARLY);
        let Some(engine) = carrier.engine else {
            return false;
        };
        let target = crate::migration::target(self);
        if engine.failure_code(&target) != Some(exit.code)
            || !early
            || carrier.without.is_none()
            || self.init.state() != State::Running
        {
            return false;
        }
        let reason = "its program ended with DMTCP's failure code soon after its start";
        engine.failed(&target, reason);
        let started = async {
            self.make_without(reason).await?;
            self.runc.run(["start", self.id.as_str()]).await
        };
        match started.await {
            Ok(()) => {
                self.watch_oom();
                true
            }
            Err(error) => {
                warn!(id = %self.id, %error, "it could not be started again without its engine");
                false
            }
        }
    }
}
