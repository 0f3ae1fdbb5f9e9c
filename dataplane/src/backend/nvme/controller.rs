//! A controller from reset to shutdown (NVM Express base specification 2.0, 3.5 and 3.6), and its I/O queues.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::NvmeError;
use super::admin::{AdminQueue, COMMAND_TIME, QUICK_COMMAND_TIME};
use super::command::Command;
use super::dma::AddressSpace;
use super::event::NvmeEvent;
use super::identify::{
    CNS_CONTROLLER, CNS_NAMESPACE, CNS_NVM_CONTROLLER, Controller as Identity, Namespace,
};
use super::registers::{
    CC_ENABLE, CC_SHUTDOWN, Capabilities, ControllerStatus, Doorbell, Registers,
};
use crate::limits::QUEUES_MAX;

/// Time that a reset may take while a worker waits for it, for each of its halves.
const QUICK_RESET_TIME: Duration = Duration::from_secs(1);
/// Time that a shutdown may take.
const SHUTDOWN_TIME: Duration = Duration::from_secs(3);

/// The epoch of a controller that does nothing any more.
pub(super) const DEAD: u32 = u32::MAX;

/// A controller that is enabled. Dropping it shuts it down.
#[derive(Debug)]
pub(super) struct Controller {
    registers: Registers,
    space: Arc<AddressSpace>,
    /// How often it was reset since: queues of before are gone, with what was in them.
    epoch: AtomicU32,
    /// Who has the lock may reset it.
    admin: Mutex<Admin>,
}

#[derive(Debug)]
struct Admin {
    queue: AdminQueue,
    /// Whether there is a queue of each number from 1 on.
    queues: Vec<bool>,
}

impl Controller {
    /// Resets and enables a controller.
    pub(super) fn new(registers: Registers, space: Arc<AddressSpace>) -> Result<Self, NvmeError> {
        if registers.status().is_gone() {
            return Err(NvmeError::Gone);
        }
        if !registers.capabilities().is_usable() {
            return Err(NvmeError::PageSize);
        }
        space.bus().set_master(true);
        let time = ready_time(registers.capabilities());
        disable(&registers, &space, time)?;
        let mut queue = AdminQueue::new(&registers, &space)?;
        enable(&registers, &space, time)?;
        let count = number_of_queues(&mut queue, COMMAND_TIME)?;
        queue.listen(COMMAND_TIME)?;
        Ok(Self {
            registers,
            space,
            epoch: AtomicU32::new(0),
            admin: Mutex::new(Admin {
                queue,
                queues: vec![false; usize::from(count)],
            }),
        })
    }

    pub(super) fn space(&self) -> &Arc<AddressSpace> {
        &self.space
    }

    pub(super) fn capabilities(&self) -> Capabilities {
        self.registers.capabilities()
    }

    /// Returns the epoch: with another one than before, the queues of before are gone.
    #[inline]
    pub(super) fn epoch(&self) -> u32 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Returns what the controller and its namespace `nsid` say of themselves.
    pub(super) fn identify(&self, nsid: u32) -> Result<(Identity, Namespace), NvmeError> {
        let mut admin = self.admin();
        let queue = &mut admin.queue;
        let page = queue.identify(CNS_CONTROLLER, 0, COMMAND_TIME)?;
        // Older ones do not have it.
        let nvm = queue.identify(CNS_NVM_CONTROLLER, 0, COMMAND_TIME).ok();
        let identity = Identity::parse(&page, nvm.as_deref());
        queue.set_aborts_max(identity.aborts_max);
        if nsid == 0 || nsid > identity.namespaces {
            return Err(NvmeError::NoNamespace(nsid));
        }
        Ok((identity, namespace(queue, nsid, COMMAND_TIME)?))
    }

    /// Returns what namespace `nsid` says of itself by now.
    pub(super) fn namespace(&self, nsid: u32) -> Result<Namespace, NvmeError> {
        let mut admin = self.admin();
        match self.epoch() {
            DEAD => Err(NvmeError::Gone),
            // Workers may want the queue.
            _ => namespace(&mut admin.queue, nsid, QUICK_COMMAND_TIME),
        }
    }

    /// Returns what the controller has told of, if nobody uses the admin queue: one is as good as the other, later.
    pub(super) fn event(&self) -> Option<NvmeEvent> {
        let mut admin = self.admin.try_lock().ok()?;
        match self.epoch() {
            DEAD => None,
            _ => admin.queue.event(QUICK_COMMAND_TIME),
        }
    }

    /// Returns the number of a queue that nobody has, and its doorbells.
    pub(super) fn reserve_queue(&self) -> Result<(u16, [Doorbell; 2]), NvmeError> {
        let mut admin = self.admin();
        let most = admin.queues.len();
        let index = admin.queues.iter().position(|used| !used);
        let index = index.ok_or(NvmeError::Queues(most))?;
        let id = index as u16 + 1;
        let doorbells = self.doorbells(id)?;
        admin.queues[index] = true;
        Ok((id, doorbells))
    }

    pub(super) fn doorbells(&self, id: u16) -> Result<[Doorbell; 2], NvmeError> {
        let doorbells = self.registers.doorbells(id);
        doorbells.map_err(|_| NvmeError::Registers)
    }

    /// Makes queue pair `id`, of `entries` entries each, at these addresses. Returns the epoch that they are of.
    pub(super) fn create_queue(
        &self,
        id: u16,
        entries: u16,
        submissions: u64,
        completions: u64,
    ) -> Result<u32, NvmeError> {
        let mut admin = self.admin();
        let queue = &mut admin.queue;
        // A reset needs the lock too, so this epoch is that of the queues.
        let epoch = self.epoch();
        if epoch == DEAD {
            return Err(NvmeError::Gone);
        }
        let time = QUICK_COMMAND_TIME;
        let completion = Command::create_completion_queue(id, entries, completions);
        queue.execute(&completion, time)?;
        let submission = Command::create_submission_queue(id, entries, submissions);
        if let Err(error) = queue.execute(&submission, time) {
            // The number is somebody's again.
            let _ = queue.execute(&Command::delete_completion_queue(id), time);
            return Err(error);
        }
        Ok(epoch)
    }

    /// Asks for the end of `commands` of queue pair `id` of `epoch`. Returns whether the controller has answered; if not, the
    /// queue is to be deleted before a number of those is used again.
    pub(super) fn abort(&self, id: u16, epoch: u32, commands: impl Iterator<Item = u16>) -> bool {
        let mut admin = self.admin();
        // Of another epoch's nothing is left.
        self.epoch() != epoch || admin.queue.abort(id, commands, QUICK_COMMAND_TIME)
    }

    /// Ends queue pair `id` of `epoch` and everything in it. When this returns, the device reaches no memory because of
    /// what was in it: if it does not obey, it is reset, and if that fails, cut off.
    pub(super) fn delete_queue(&self, id: u16, epoch: u32) {
        let mut admin = self.admin();
        if self.epoch() != epoch || epoch == DEAD {
            return;
        }
        if admin.queue.owes_aborts() {
            // It would not answer that either.
            return self.reset(&mut admin);
        }
        let commands = [
            Command::delete_submission_queue(id),
            Command::delete_completion_queue(id),
        ];
        let mut execute = |command: &Command| admin.queue.execute(command, QUICK_COMMAND_TIME);
        if commands.iter().any(|command| execute(command).is_err()) {
            self.reset(&mut admin);
        }
    }

    /// Gives the number of a queue that does not exist any more to others.
    pub(super) fn release_queue(&self, id: u16) {
        if let Some(used) = self.admin().queues.get_mut(usize::from(id) - 1) {
            *used = false;
        }
    }

    /// Looks whether the controller of `epoch` is there and sound; if not, resets it or gives it up.
    #[cold]
    pub(super) fn look_after(&self, epoch: u32) {
        let status = self.registers.status();
        if !status.is_gone() && !status.is_fatal() {
            return;
        }
        let mut admin = self.admin();
        if self.epoch() == epoch {
            self.reset(&mut admin);
        }
    }

    /// Ends everything that is in flight, and all queues. If it cannot be used after that, the epoch is [`DEAD`].
    fn reset(&self, admin: &mut Admin) {
        let next = match self.try_reset(admin) {
            Ok(()) => self.epoch().wrapping_add(1) % DEAD,
            Err(_) => {
                self.space.bus().set_master(false);
                DEAD
            }
        };
        self.epoch.store(next, Ordering::Release);
    }

    fn try_reset(&self, admin: &mut Admin) -> Result<(), NvmeError> {
        disable(&self.registers, &self.space, QUICK_RESET_TIME)?;
        admin.queue.restart(&self.registers)?;
        enable(&self.registers, &self.space, QUICK_RESET_TIME)?;
        let count = number_of_queues(&mut admin.queue, QUICK_COMMAND_TIME)?;
        match usize::from(count) < admin.queues.len() {
            true => Err(NvmeError::Queues(usize::from(count))),
            false => admin.queue.listen(QUICK_COMMAND_TIME),
        }
    }

    fn admin(&self) -> MutexGuard<'_, Admin> {
        self.admin.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        let registers = &self.registers;
        if self.epoch() != DEAD {
            registers.configure(registers.configuration() | CC_SHUTDOWN);
            // One that does not answer is disabled all the same.
            let _ = wait(&self.space, SHUTDOWN_TIME, || {
                registers.status().is_shut_down()
            });
            let _ = disable(registers, &self.space, QUICK_RESET_TIME);
        }
        self.space.bus().set_master(false);
    }
}

fn namespace(queue: &mut AdminQueue, nsid: u32, time: Duration) -> Result<Namespace, NvmeError> {
    let namespace = Namespace::parse(&*queue.identify(CNS_NAMESPACE, nsid, time)?);
    match namespace.blocks {
        0 => Err(NvmeError::NoNamespace(nsid)),
        _ => Ok(namespace),
    }
}

/// Returns how long the controller may take for a reset.
fn ready_time(capabilities: Capabilities) -> Duration {
    // Some forget to tell.
    Duration::from_millis(capabilities.ready_ms_max().max(500))
}

/// Asks for as many queues as may be wanted. Returns how many there are.
fn number_of_queues(queue: &mut AdminQueue, time: Duration) -> Result<u16, NvmeError> {
    let granted = queue.execute(&Command::set_number_of_queues(QUEUES_MAX), time)?;
    // Counted from 0: submission queues, then completion queues.
    let count = (granted & 0xffff).min(granted >> 16) + 1;
    Ok(count.min(u32::from(QUEUES_MAX)) as u16)
}

fn disable(registers: &Registers, space: &AddressSpace, time: Duration) -> Result<(), NvmeError> {
    registers.configure(registers.configuration() & !(CC_SHUTDOWN | 1));
    wait(space, time, || {
        let status = registers.status();
        !status.is_ready() || status.is_gone()
    })?;
    check(registers.status())
}

fn enable(registers: &Registers, space: &AddressSpace, time: Duration) -> Result<(), NvmeError> {
    registers.configure(CC_ENABLE);
    wait(space, time, || {
        let status = registers.status();
        status.is_ready() || status.is_fatal()
    })?;
    let status = registers.status();
    check(status)?;
    match status.is_fatal() {
        true => Err(NvmeError::Fatal),
        false => Ok(()),
    }
}

fn check(status: ControllerStatus) -> Result<(), NvmeError> {
    match status.is_gone() {
        true => Err(NvmeError::Gone),
        false => Ok(()),
    }
}

fn wait(
    space: &AddressSpace,
    time: Duration,
    mut is_done: impl FnMut() -> bool,
) -> Result<(), NvmeError> {
    let deadline = Instant::now() + time;
    while !is_done() {
        if Instant::now() > deadline {
            return Err(NvmeError::Hung);
        }
        space.bus().pause();
    }
    Ok(())
}
