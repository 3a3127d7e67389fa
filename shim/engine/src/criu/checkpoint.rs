//! Taking a checkpoint.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::config::{self, Config};
use super::gate::Waiting;
use super::plugins::{self, Plugins};
use super::{ends, ipc, log, network, obstacles, preload, runtime, stopped, tar};
use crate::freezer::Freezer;
use crate::{Checkpoint, EngineError, Purpose, Runner, spec};

/// Starts what dumps a container, up to the point where it would look at the processes.
pub(super) async fn begin(
    runner: &dyn Runner,
    checkpoint: &Checkpoint,
) -> Result<Waiting, EngineError> {
    let target = &checkpoint.target;
    runtime::private_directory(&checkpoint.image_dir)?;
    let logs = Logs::of(&checkpoint.work_dir)?;
    let plugins = Plugins::make(runner, &target.bundle, true).await?;
    configure(checkpoint, &plugins)?;
    let command = command(checkpoint, &logs.runtime)?;
    Waiting::start(runner, command, &checkpoint.image_dir, plugins)
        .await
        .map_err(EngineError::io("start", &target.runtime.binary))
}

/// Dumps a container, with what [`begin`] started, if anything. The image is complete only when
/// this returns without an error.
pub(super) async fn checkpoint(
    runner: &dyn Runner,
    checkpoint: Checkpoint,
    waiting: Option<Waiting>,
) -> Result<(), EngineError> {
    let Checkpoint {
        target,
        pid,
        image_dir,
        work_dir,
        purpose,
        pod,
        ..
    } = &checkpoint;
    runtime::private_directory(image_dir)?;
    let logs = match waiting {
        // It has begun to write them.
        Some(_) => Logs::at(work_dir),
        None => Logs::of(work_dir)?,
    };
    ipc::save(target, pod, image_dir)?;
    let cut = ends::save(target, *pid, pod, image_dir)?;
    let freezer = Freezer::of_process(*pid)?;
    let mut stopped = stopped::record(image_dir, &freezer.processes()?)?;
    if !freezer.is_frozen()? {
        // CRIU then sees for itself what is stopped.
        stopped.clear();
    }
    let _continued = stopped::Continued::new(stopped)?;

    let failed = |cause: String| EngineError::Checkpoint {
        container: target.name.clone(),
        cause,
        log: logs.criu.clone(),
    };
    if *purpose == Purpose::Migration {
        // It may have come after the preflight.
        obstacles::nothing_unread(&target.name, *pid).map_err(failed)?;
    }
    let ended = if let Some(waiting) = waiting {
        waiting.go(&cut, runtime::LIMIT).await
    } else {
        let plugins = Plugins::make(runner, &target.bundle, !cut.is_empty()).await?;
        configure(&checkpoint, &plugins)?;
        let mut command = command(&checkpoint, &logs.runtime)?;
        plugins::answer_for(&mut command, &cut);
        runner.run(command, runtime::LIMIT).await
    };
    match ended {
        Ok(0) => Ok(()),
        Ok(code) => Err(failed(log::cause(&logs.criu, &logs.runtime, code))),
        Err(error) => Err(failed(format!(
            "{}: {error}",
            target.runtime.binary.display()
        ))),
    }
}

struct Logs {
    criu: PathBuf,
    runtime: PathBuf,
}

impl Logs {
    /// Those in this directory, with nothing in them yet.
    fn of(work: &Path) -> Result<Self, EngineError> {
        runtime::logs(work, runtime::DUMP_LOG)?;
        Ok(Self::at(work))
    }

    fn at(work: &Path) -> Self {
        let (criu, runtime) = runtime::log_paths(work, runtime::DUMP_LOG);
        Self { criu, runtime }
    }
}

fn configure(checkpoint: &Checkpoint, plugins: &Plugins) -> Result<(), EngineError> {
    let config =
        Config::checkpoint(checkpoint.purpose, checkpoint.connections).plugins(plugins.directory());
    config::write(&checkpoint.target.bundle, &config)
}

fn command(checkpoint: &Checkpoint, log: &Path) -> Result<Command, EngineError> {
    let target = &checkpoint.target;
    let mut command = runtime::command(target, log, "checkpoint");
    preload::add(&mut command);
    tar::offer(&mut command, &target.bundle);
    runtime::shared_flags(
        &mut command,
        target,
        &checkpoint.image_dir,
        &checkpoint.work_dir,
    );
    // Connections that the program has not accepted yet have no process to be kept in.
    command.arg("--tcp-skip-in-flight");
    if checkpoint.purpose != (Purpose::Local { exit: true }) {
        command.arg("--leave-running");
    }
    command.arg(&target.id);
    let processes = Freezer::of_process(checkpoint.pid)?.processes()?;
    // There is none of a container whose shim has died. It has to do without.
    if let Ok(spec) = spec::read(&target.bundle)
        && !network::has_others(checkpoint.pid, &processes)
    {
        network::enter(&mut command, network::of_pod(&spec, checkpoint.purpose)?);
    }
    Ok(command)
}
