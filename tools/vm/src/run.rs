//! Running a command in a machine, from power-on to its exit code.

use std::fs::File;
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::accel;
use crate::base;
use crate::cache::Cache;
use crate::debian;
use crate::error::{Context, Error};
use crate::kernel::{Kernel, KernelName};
use crate::log::Log;
use crate::machine::{Machine, Streams};
use crate::payload;
use crate::spec::{Accel, Init, VmSpec};
use crate::stream::{self, Event, Stream};

/// Pieces of output that wait for a slow reader before the guest has to.
const EVENTS_MAX: usize = 64;

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The command ended with this exit code; 128 + n when signal n killed it.
    Exited(i32),
    /// The time limit was reached.
    TimedOut,
    /// The guest's kernel panicked.
    Panicked,
    /// Nothing of the guest was heard for [`VmSpec::silence_max`]; the log ends with the state of its CPUs.
    Frozen,
    /// The machine ended before the command did, or never started it; with the reason.
    Failed(String),
}

/// What is known after a run.
#[derive(Debug)]
pub struct Outcome {
    /// How it ended.
    pub end: End,
    /// What the guest's kernel and init wrote on the console.
    pub log: Log,
    /// Time from power-on until the command started; None when it never did.
    pub boot: Option<Duration>,
    /// How the CPUs were run.
    pub accel: Accel,
}

impl Outcome {
    /// Returns whether an emulated kernel failed before the command began. Under TCG a CPU may run into the
    /// breakpoint that the kernel sets while it patches its own code.
    fn failed_while_booting(&self) -> bool {
        let failed = matches!(self.end, End::Panicked | End::Frozen);
        failed && self.boot.is_none() && self.accel == Accel::Tcg
    }
}

/// Where the command's output goes.
pub struct Output<'a> {
    /// Takes its stdout.
    pub stdout: &'a mut dyn Write,
    /// Takes its stderr.
    pub stderr: &'a mut dyn Write,
}

impl VmSpec {
    /// Makes the machine, runs the command in it and passes on its output as it comes.
    ///
    /// `progress` is called with one line before each slow step. The machine is killed when the
    /// calling thread ends, however that ends.
    ///
    /// # Errors
    /// When the machine cannot be made. What goes wrong inside is an [`Outcome`].
    pub fn run(
        &self,
        cache: &Cache,
        output: Output<'_>,
        progress: &dyn Fn(&str),
    ) -> Result<Outcome, Error> {
        self.check()?;
        crate::host::require(&[])?;
        let kernel = Kernel::get(cache, &self.kernel, progress)?;
        let base = base::get(cache, &kernel, progress)?;
        let debian = match self.init {
            Init::Plain => None,
            Init::Systemd => Some(debian::get(cache, progress)?),
        };
        let archives: Vec<&Path> = [Some(&base), debian.as_ref()]
            .into_iter()
            .flatten()
            .map(PathBuf::as_path)
            .collect();
        let accel = match self.accel {
            _ if self.kernel == KernelName::Uml => Accel::Uml,
            Some(accel) => accel,
            None => accel::choose(cache, &kernel, &base, progress)?,
        };
        let again = Output {
            stdout: &mut *output.stdout,
            stderr: &mut *output.stderr,
        };
        let first = self.power_on(accel, &kernel, &archives, again, progress)?;
        if !first.failed_while_booting() {
            return Ok(first);
        }
        progress(
            "the kernel failed while it booted, which an emulated one does now and then; once more",
        );
        self.power_on(accel, &kernel, &archives, output, progress)
    }

    /// Runs the command with everything at hand: `archives` are those that come before the run's own.
    pub(crate) fn power_on(
        &self,
        accel: Accel,
        kernel: &Kernel,
        archives: &[&Path],
        output: Output<'_>,
        progress: &dyn Fn(&str),
    ) -> Result<Outcome, Error> {
        let token = token()?;
        let payload = payload::build(self, kernel, &token)?;
        progress(&format!(
            "booting {} with {}",
            kernel.release,
            accel.name().to_uppercase()
        ));
        let start = Instant::now();
        let (mut machine, streams) = Machine::start(self, accel, kernel, archives, &payload)?;
        let events = listen(streams, &token);
        let mut guest = Guest::new(self, output, start, progress)?;
        let end = guest.watch(&events, start + self.timeout)?;
        let state = (end == End::Frozen).then(|| machine.state());
        machine.kill();
        for event in events {
            guest.keep(event);
        }
        if let Some(state) = state {
            guest.log.push(state.as_bytes());
        }
        guest.outcome(end, accel)
    }
}

/// Reads every stream in a thread of its own; they end with the machine.
fn listen(streams: Streams, token: &str) -> Receiver<Event> {
    let (sender, events) = sync_channel(EVENTS_MAX);
    for (stream, reader) in streams {
        let (sender, token) = (sender.clone(), token.as_bytes().to_vec());
        thread::spawn(move || stream::forward(stream, reader, &token, &sender));
    }
    events
}

/// What the guest has told so far.
struct Guest<'a, 'o> {
    output: Output<'o>,
    progress: &'a dyn Fn(&str),
    start: Instant,
    /// When it told something last.
    heard: Instant,
    silence_max: Duration,
    /// Streams whose token is still to come.
    open: Vec<Stream>,
    status: String,
    log: Log,
    qemu: Vec<u8>,
    /// The tar of /out and the folder it goes to.
    out: Option<(File, &'a Path)>,
    boot: Option<Duration>,
}

impl<'a, 'o> Guest<'a, 'o> {
    fn new(
        spec: &'a VmSpec,
        output: Output<'o>,
        start: Instant,
        progress: &'a dyn Fn(&str),
    ) -> Result<Self, Error> {
        let mut open = vec![Stream::Stdout, Stream::Stderr, Stream::Status];
        let out = match &spec.out {
            Some(dir) => {
                open.push(Stream::Out);
                Some((
                    tempfile::tempfile().context(dir, "making a file for /out")?,
                    dir.as_path(),
                ))
            }
            None => None,
        };
        let (status, log, qemu) = (String::new(), Log::default(), Vec::new());
        Ok(Self {
            output,
            progress,
            start,
            heard: start,
            silence_max: spec.silence_max,
            open,
            status,
            log,
            qemu,
            out,
            boot: None,
        })
    }

    /// Handles events until the command has ended and all it wrote is here.
    fn watch(&mut self, events: &Receiver<Event>, deadline: Instant) -> Result<End, Error> {
        while !self.open.is_empty() {
            let silent = self.heard + self.silence_max;
            let left = deadline
                .min(silent)
                .saturating_duration_since(Instant::now());
            match events.recv_timeout(left) {
                Ok(event) => {
                    self.take(event)?;
                    // Behind what it took to pass the output on: a slow reader is not a silent guest.
                    self.heard = Instant::now();
                }
                Err(RecvTimeoutError::Timeout) if silent < deadline => return Ok(End::Frozen),
                Err(RecvTimeoutError::Timeout) => return Ok(End::TimedOut),
                Err(RecvTimeoutError::Disconnected) => return Ok(self.ended_early()),
            }
            if let Some(reason) = self
                .status
                .lines()
                .find_map(|line| line.strip_prefix("failed "))
            {
                return Ok(End::Failed(reason.to_owned()));
            }
            // QEMU then stops the CPUs and waits for a debugger.
            if String::from_utf8_lossy(&self.qemu).contains("KVM internal error") {
                return Ok(self.ended_early());
            }
        }
        let code = self
            .status
            .lines()
            .find_map(|line| line.strip_prefix("exit ")?.parse().ok());
        Ok(code.map_or_else(
            || End::Failed("the guest told no exit code".into()),
            End::Exited,
        ))
    }

    /// Handles one event.
    fn take(&mut self, event: Event) -> Result<(), Error> {
        let failed = |stream| move |source| Error::Output { stream, source };
        match event {
            Event::End(stream) => self.open.retain(|open| *open != stream),
            Event::Bytes(Stream::Stdout, bytes) => {
                let out = &mut *self.output.stdout;
                out.write_all(&bytes)
                    .and_then(|()| out.flush())
                    .map_err(failed("stdout"))?;
            }
            Event::Bytes(Stream::Stderr, bytes) => {
                let out = &mut *self.output.stderr;
                out.write_all(&bytes)
                    .and_then(|()| out.flush())
                    .map_err(failed("stderr"))?;
            }
            Event::Bytes(Stream::Out, bytes) => {
                if let Some((file, _)) = &mut self.out {
                    file.write_all(&bytes).map_err(failed("/out"))?;
                }
            }
            Event::Bytes(Stream::Status, bytes) => {
                self.status.push_str(&String::from_utf8_lossy(&bytes));
                if self.boot.is_none() && self.status.contains("ready\n") {
                    let boot = self.start.elapsed();
                    self.boot = Some(boot);
                    (self.progress)(&format!("booted in {:.1} s", boot.as_secs_f64()));
                }
            }
            other => self.keep(other),
        }
        Ok(())
    }

    /// Handles what comes after the end: only logs still matter.
    fn keep(&mut self, event: Event) {
        match event {
            Event::Bytes(Stream::Log, bytes) => self.log.push(&bytes),
            Event::Bytes(Stream::Qemu, bytes) => self.qemu.extend(bytes),
            _ => {}
        }
    }

    /// Returns why QEMU ended before the command did.
    fn ended_early(&self) -> End {
        let qemu = String::from_utf8_lossy(&self.qemu);
        let reason = qemu.lines().find(|line| !line.trim().is_empty());
        End::Failed(match (reason, self.boot) {
            (Some(line), _) => line.to_owned(),
            (None, Some(_)) => "the guest powered off before the command ended".into(),
            (None, None) => "the guest stopped while booting".into(),
        })
    }

    fn outcome(mut self, end: End, accel: Accel) -> Result<Outcome, Error> {
        let end = match end {
            End::Failed(_) | End::TimedOut | End::Frozen if self.log.panicked() => End::Panicked,
            end => end,
        };
        if let (End::Exited(_), Some((file, dir))) = (&end, &mut self.out) {
            std::fs::create_dir_all(*dir).context(*dir, "making")?;
            file.rewind().context(*dir, "reading the guest's /out")?;
            tar::Archive::new(file)
                .unpack(*dir)
                .context(*dir, "unpacking the guest's /out")?;
        }
        Ok(Outcome {
            end,
            log: self.log,
            boot: self.boot,
            accel,
        })
    }
}

/// Returns a word that no output contains by chance.
fn token() -> Result<String, Error> {
    let path = "/proc/sys/kernel/random/uuid";
    let uuid = std::fs::read_to_string(path).context(path, "reading")?;
    Ok(format!("end-{}", uuid.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_failure_before_the_command_is_worth_another_boot() {
        let outcome = |end, boot: Option<u64>, accel| Outcome {
            end,
            log: Log::default(),
            boot: boot.map(Duration::from_secs),
            accel,
        };
        for failed in [End::Panicked, End::Frozen] {
            assert!(outcome(failed, None, Accel::Tcg).failed_while_booting());
        }
        for other in [
            outcome(End::Panicked, Some(4), Accel::Tcg),
            outcome(End::Frozen, Some(4), Accel::Tcg),
            outcome(End::Panicked, None, Accel::Kvm),
            outcome(End::TimedOut, None, Accel::Tcg),
            outcome(End::Exited(1), Some(4), Accel::Tcg),
        ] {
            assert!(!other.failed_while_booting(), "{other:?}");
        }
    }
}
