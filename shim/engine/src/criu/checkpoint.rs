//! Taking a checkpoint.

use super::config::{self, Config};
use super::plugins::{self, Plugins};
use super::{ends, ipc, log, obstacles, preload, runtime, stopped};
use crate::freezer::Freezer;
use crate::{Checkpoint, EngineError, Purpose, Runner};

/// Dumps a container. The image is complete only when this returns without an error.
pub(super) async fn checkpoint(
    runner: &dyn Runner,
    checkpoint: Checkpoint,
) -> Result<(), EngineError> {
    let Checkpoint {
        target,
        pid,
        image_dir,
        work_dir,
        purpose,
        connections,
        pod,
    } = checkpoint;
    runtime::private_directory(&image_dir)?;
    let (criu_log, runtime_log) = runtime::logs(&work_dir, "dump.log")?;
    ipc::save(&target, &pod, &image_dir)?;
    let cut = ends::save(&target, pid, &pod, &image_dir)?;
    let plugins = Plugins::make(runner, &target.bundle, !cut.is_empty()).await?;
    let config = Config::checkpoint(purpose, connections).plugins(plugins.directory());
    config::write(&target.bundle, &config)?;
    let freezer = Freezer::of_process(pid)?;
    let mut stopped = stopped::record(&image_dir, &freezer.processes()?)?;
    if !freezer.is_frozen()? {
        // CRIU then sees for itself what is stopped.
        stopped.clear();
    }
    let _continued = stopped::Continued::new(stopped)?;

    let mut command = runtime::command(&target, &runtime_log, "checkpoint");
    preload::add(&mut command);
    plugins::answer_for(&mut command, &cut);
    runtime::shared_flags(&mut command, &target, &image_dir, &work_dir);
    // Connections that the program has not accepted yet have no process to be kept in.
    command.arg("--tcp-skip-in-flight");
    if purpose != (Purpose::Local { exit: true }) {
        command.arg("--leave-running");
    }
    command.arg(&target.id);

    let failed = |cause: String| EngineError::Checkpoint {
        container: target.name.clone(),
        cause,
        log: criu_log.clone(),
    };
    if purpose == Purpose::Migration {
        // It may have come after the preflight.
        obstacles::nothing_unread(&target.name, pid).map_err(failed)?;
    }
    match runner.run(command, runtime::LIMIT).await {
        Ok(0) => Ok(()),
        Ok(code) => Err(failed(log::cause(&criu_log, &runtime_log, code))),
        Err(error) => Err(failed(format!(
            "{}: {error}",
            target.runtime.binary.display()
        ))),
    }
}
