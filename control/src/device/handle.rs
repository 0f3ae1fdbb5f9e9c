//! Starting a device, and the handles that other threads have on its control thread.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use nix::sys::eventfd::{EfdFlags, EventFd};
use pollux_dataplane::worker::calibrate_clock;
use tracing::error;
use vduse::{Device, DeviceError, Name};

use super::notifier::VduseNotifier;
use super::thread::ControlThread;
use super::trace::{Trace, controller_note};
use super::umem::Umem;
use super::vhost_user;
use super::workers::Workers;
use super::{
    Created, Crew, DeviceOptions, DeviceSnapshot, Disk, Moment, PauseError, ResizeError, Resized,
    ServeError,
};
use crate::sandbox::raised;
use crate::vdpa::{self, AttachError, Attached, Driver};

/// How long an answer of the control thread is waited for. A worker's bound, and some.
const ANSWER_WAIT: Duration = Duration::from_secs(20);

/// What others ask of the control thread.
pub(super) enum Ask {
    Snapshot(Sender<DeviceSnapshot>),
    /// Let go of the queues for the next daemon and end; answered with when, or none if they are not let go of.
    HandOver(Sender<Option<Moment>>),
    Resize {
        size_bytes: u64,
        force: bool,
        answer: Sender<Result<(Resized, Option<File>), ResizeError>>,
    },
    /// Be ready for an attach; answered with what is in its way.
    Renew(Sender<Result<(), ServeError>>),
    Leaving(bool),
    Pause(Sender<Result<(), PauseError>>),
    Resume(Sender<Result<(), PauseError>>),
    /// Answer, which is all.
    Alive(Sender<()>),
    End,
}

/// A served device. Its thread runs until [`end`](Self::end).
#[derive(Debug)]
pub struct ControlHandle {
    asks: Sender<Ask>,
    wake: Arc<EventFd>,
    thread: JoinHandle<bool>,
    /// What is in the kernel of it, if anything is.
    created: Option<Created>,
    served_at: Moment,
    outlives_daemon: bool,
}

/// A way to ask a served device, for other threads.
#[derive(Clone, Debug)]
pub struct Asker {
    asks: Sender<Ask>,
    wake: Arc<EventFd>,
}

impl Asker {
    /// Returns what the device looks like now; `None` when its control thread has ended or is busy
    /// with a worker that does not answer.
    pub fn snapshot(&self) -> Option<DeviceSnapshot> {
        self.ask(Ask::Snapshot)
    }

    /// Makes the disk `size_bytes` large, smaller than it is only with `force`; `None` when the control thread
    /// does not say how that went.
    ///
    /// # Errors
    ///
    /// [`ResizeError`], which says what size the disk has then.
    pub fn resize(&self, size_bytes: u64, force: bool) -> Option<Result<Resized, ResizeError>> {
        let answered = self.ask(|answer| Ask::Resize {
            size_bytes,
            force,
            answer,
        })?;
        Some(answered.and_then(|(resized, file)| {
            // Here, where nobody waits: it takes as long as the storage needs for all that is unwritten.
            let synced = file.map_or(Ok(()), |file| file.sync_all());
            let name = resized.name.clone();
            synced.map_err(|reason| ResizeError::Sync { name, reason })?;
            Ok(resized)
        }))
    }

    /// Has the device stand still, with nothing in flight, until it is to [go on](Self::resume), or its driver lets go of it;
    /// `None` when the control thread does not say whether it does.
    ///
    /// # Errors
    ///
    /// [`PauseError`] when it is served on.
    pub fn pause(&self) -> Option<Result<(), PauseError>> {
        self.ask(Ask::Pause)
    }

    /// Has a device go on that was paused; `None` when the control thread does not say whether it does.
    ///
    /// # Errors
    ///
    /// None today: going on is possible wherever a pause is.
    pub fn resume(&self) -> Option<Result<(), PauseError>> {
        self.ask(Ask::Resume)
    }

    fn ask<T>(&self, ask: impl FnOnce(Sender<T>) -> Ask) -> Option<T> {
        let (answer, answered) = channel();
        self.asks.send(ask(answer)).ok()?;
        let _ = self.wake.write(1);
        answered.recv_timeout(ANSWER_WAIT).ok()
    }

    /// Asks whether the control thread lives; it answers as soon as it has nothing else to do.
    pub(crate) fn ask_alive(&self) -> Receiver<()> {
        let (sender, receiver) = channel();
        // A thread that has ended drops the sender.
        let _ = self.asks.send(Ask::Alive(sender));
        let _ = self.wake.write(1);
        receiver
    }

    /// Returns whether both ask the same device, and not another one of its name.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.wake, &other.wake)
    }

    /// Says that the device's driver is to let go, or that it need not after all. It waits for all that it has
    /// asked for, so what the backend does not finish in time fails, and all that comes after it.
    pub fn set_leaving(&self, leaving: bool) {
        // A control thread that has ended has nothing in flight.
        let _ = self.asks.send(Ask::Leaving(leaving));
        let _ = self.wake.write(1);
    }
}

impl Asker {
    /// Attaches the device to `driver`, made anew before where that takes it. Blocks as [`vdpa::attach`] does.
    ///
    /// # Errors
    ///
    /// [`AttachError`] when it cannot be.
    pub fn attach(&self, name: &Name, driver: Driver) -> Result<Attached, AttachError> {
        let (sender, receiver) = channel();
        // A thread that has ended drops the sender.
        let _ = self.asks.send(Ask::Renew(sender));
        let _ = self.wake.write(1);
        let refuse = |reason: String| AttachError::Stale {
            name: name.clone(),
            reason,
        };
        let renewed = receiver
            .recv()
            .map_err(|_| refuse("its threads have ended".into()))?;
        renewed.map_err(|error| refuse(error.to_string()))?;
        vdpa::attach(name, driver)
    }
}

impl ControlHandle {
    /// Returns a way to ask the device.
    pub fn asker(&self) -> Asker {
        Asker {
            asks: self.asks.clone(),
            wake: Arc::clone(&self.wake),
        }
    }

    /// Returns when a device that was taken over was served again.
    pub fn served_at(&self) -> Moment {
        self.served_at
    }

    /// Returns whether the device is one that a killed daemon left.
    pub fn is_taken_over(&self) -> bool {
        self.created.as_ref().is_some_and(Created::is_taken_over)
    }

    /// Returns whether the next daemon can take the device over, and finds its data. That of a frontend of vhost-user is
    /// the frontend's to bring there.
    pub fn can_be_left(&self) -> bool {
        self.created.is_some() && self.outlives_daemon
    }

    /// Has the threads let go of the queues, for the next daemon, and end. Returns since when the driver waits; `None`
    /// when a worker has more in flight than it can finish in time, and the device is served on.
    pub fn let_go(&self) -> Option<Moment> {
        let (sender, receiver) = channel();
        // A thread that has ended drops the sender.
        let _ = self.asks.send(Ask::HandOver(sender));
        let _ = self.wake.write(1);
        receiver.recv().ok()?
    }

    /// Closes the device, which its threads have let go of, and leaves it to the next daemon.
    ///
    /// # Errors
    ///
    /// What the system said; the device is open then until the process ends.
    pub fn leave(&mut self) -> std::io::Result<()> {
        self.created.as_mut().map_or(Ok(()), Created::leave)
    }

    /// Waits for the threads of a device that was left.
    pub fn wait(self) {
        // What went wrong there is logged.
        let _ = self.thread.join();
    }

    /// Ends the control thread and the workers, and destroys the device, which must be detached.
    /// Returns whether nothing was left behind.
    pub fn end(self) -> bool {
        // An ended thread needs no telling.
        let _ = self.asks.send(Ask::End);
        let _ = self.wake.write(1);
        let clean = self.thread.join().unwrap_or(false);
        let Some(created) = self.created else {
            return clean;
        };
        let name = created.name().clone();
        match created.destroy() {
            Ok(()) => clean,
            Err(error) => {
                error!(device = %name, "{error}");
                false
            }
        }
    }
}

/// A device about to be served, its options checked and its disk open. Nothing is made yet.
#[derive(Debug)]
pub struct Prepared {
    options: DeviceOptions,
    cpus: Vec<usize>,
    disk: Disk,
    umem: Umem,
    folder: PathBuf,
    crew: Crew,
    /// Closed, until it is made or taken over.
    device: Arc<Device>,
    /// What wakes its control thread.
    wake: Arc<EventFd>,
    /// Started already, for a device that another daemon serves.
    workers: Option<Workers>,
}

/// VDUSE's own size of a bounce region, in bytes.
const BOUNCE_BYTES_DEFAULT: u64 = 64 << 20;

impl Prepared {
    /// Checks `options`, opens the disk, and does what takes time and can be done before. `folder` is
    /// where the next daemon finds what it needs to take over. Its workers are of the `crew`; there are others on those
    /// CPUs `taken`.
    ///
    /// # Errors
    ///
    /// [`ServeError`] when an option makes no sense or the disk is not there.
    pub(crate) fn new(
        mut options: DeviceOptions,
        folder: &Path,
        crew: &Crew,
        taken: &[usize],
    ) -> Result<Self, ServeError> {
        let cpus = options.check(taken)?;
        options.mode = crew.mode(&options)?;
        let note = controller_note(folder, &options.name);
        let open = options
            .backend
            .open_noting(options.name.as_str(), Some(&note));
        let backend = options.backend.to_string();
        let disk = open.map_err(|reason| ServeError::Disk { backend, reason })?;
        calibrate_clock();
        let name = &options.name;
        let device = Device::closed(name).map_err(|reason| DeviceError::Other {
            name: name.clone(),
            operation: "open /dev/null",
            reason,
        })?;
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let wake = EventFd::from_flags(flags).map_err(|reason| ServeError::Thread {
            name: name.clone(),
            reason: reason.into(),
        });
        let bounce_bytes = options.bounce_size_bytes.unwrap_or(BOUNCE_BYTES_DEFAULT);
        Ok(Self {
            disk,
            umem: Umem::new(options.umem, bounce_bytes, &options.name),
            options,
            cpus,
            folder: folder.to_owned(),
            crew: crew.clone(),
            device: Arc::new(device),
            wake: Arc::new(wake?),
            workers: None,
        })
    }

    /// Returns the device's name.
    pub fn name(&self) -> &Name {
        &self.options.name
    }

    /// Returns the CPUs of its own threads.
    pub fn cpus(&self) -> &[usize] {
        &self.cpus
    }

    /// Finds out whether a device that exists can be taken over, and starts the threads that serve it then.
    ///
    /// # Errors
    ///
    /// [`ServeError`] when it differs, or its data is in its daemon's memory.
    pub fn stand_by(&mut self) -> Result<(), ServeError> {
        let (options, disk) = (&self.options, &self.disk);
        if let Some(state) = Created::check(options, disk, &self.folder)? {
            let log = Trace::new(&self.folder, &options.name).log(&state)?;
            let notifier = vduse_notifier(&self.device);
            let log = |index| log.queue(index);
            let (crew, cpus) = (&self.crew, &self.cpus);
            let workers = crew.spawn_workers(options, disk, cpus, &self.wake, notifier, log)?;
            self.workers = Some(workers);
        }
        Ok(())
    }

    /// Makes the device, or takes over what another daemon left of it, and starts its threads.
    ///
    /// # Errors
    ///
    /// [`ServeError`] when any part of it cannot be had; nothing new is left behind then.
    pub fn spawn(self) -> Result<ControlHandle, ServeError> {
        let Self {
            options,
            cpus,
            disk,
            umem,
            folder,
            crew,
            device,
            wake,
            workers,
        } = self;
        disk.claim().map_err(|reason| ServeError::Disk {
            backend: options.backend.to_string(),
            reason,
        })?;
        let outlives_daemon = options.backend.outlives_daemon();
        let (asks, inbox) = channel();
        if let Some(path) = options.vhost_user.clone() {
            let thread =
                vhost_user::spawn(options, disk, &cpus, &crew, &path, Arc::clone(&wake), inbox)?;
            return Ok(ControlHandle {
                asks,
                wake,
                thread,
                created: None,
                served_at: Moment::now(),
                outlives_daemon,
            });
        }
        let is_there = workers.is_some();
        // Device nodes and attributes in sysfs are root's.
        let created = raised(|| Created::new(&options, &disk, &folder, &device, is_there))?;
        // It may have gone in between, and its log with it.
        let workers = match workers.filter(|_| created.is_taken_over()) {
            Some(workers) => workers,
            None => {
                let log = |index| created.log().queue(index);
                let notifier = vduse_notifier(&device);
                crew.spawn_workers(&options, &disk, &cpus, &wake, notifier, log)?
            }
        };
        let name = options.name.clone();
        let refuse = |reason: std::io::Error| ServeError::Thread {
            name: name.clone(),
            reason,
        };
        let mut control = ControlThread::new(
            options,
            disk,
            &created,
            device,
            workers,
            Arc::clone(&wake),
            inbox,
        );
        control.umem = umem;
        if created.is_taken_over() {
            control.take_over();
        }
        let served_at = control.served_at;
        let thread = Builder::new().name(format!("{name}/control"));
        let thread = thread.spawn(move || control.run()).map_err(refuse)?;
        Ok(ControlHandle {
            asks,
            wake,
            thread,
            created: Some(created),
            served_at,
            outlives_daemon,
        })
    }
}

/// Returns what makes the notifier of a queue of `device`.
fn vduse_notifier(device: &Arc<Device>) -> impl Fn(u16) -> VduseNotifier {
    |index| VduseNotifier {
        device: Arc::clone(device),
        index: index.into(),
    }
}
