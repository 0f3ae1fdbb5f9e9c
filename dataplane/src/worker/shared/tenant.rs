//! One of the queues that share a thread: as that sees it, whatever its backend and its notifications are.

use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};

use crate::backend::BackendQueue;
use crate::worker::service::sleep::count;
use crate::worker::service::{Service, Step};
use crate::worker::{Command, Notifier, Poller};

/// What became of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Something was done.
    Busy,
    /// The driver is about to be interrupted.
    Holding,
    /// There was nothing to do.
    Idle,
    /// There is nothing that could be done before the next command.
    Nothing,
    /// The worker was told to end.
    Gone,
}

/// A queue on a thread that it shares.
pub(super) trait Member {
    /// Obeys commands, then does one pass.
    fn turn(&mut self, epoll: &Epoll) -> Turn;

    /// Has all that can happen to the queue show in `epoll`, as `place`. Returns whether the thread may sleep, as far as this
    /// one is concerned. It stays armed until there is something to do for it.
    fn arm(&mut self, epoll: &Epoll, place: u64) -> bool;

    /// Takes that back, and what was signalled.
    fn disarm(&mut self, epoll: &Epoll);
}

/// A service, and what only one that shares its thread needs.
pub(super) struct Tenant<Q, N> {
    service: Service<Q, N>,
    armed: Option<Armed>,
    /// A command that is obeyed when nothing is in flight, or then.
    waiting: Option<(u64, Command, Instant)>,
}

/// What shows in epoll.
#[derive(Clone, Copy, Debug, Default)]
struct Armed {
    kick: bool,
    completions: bool,
}

impl<Q: BackendQueue, N: Notifier> Tenant<Q, N> {
    pub(super) fn new(service: Service<Q, N>) -> Self {
        Self {
            service,
            armed: None,
            waiting: None,
        }
    }

    /// Does what control asks for. Returns whether there was anything; none when the worker is to end.
    #[cold]
    fn obey(&mut self, epoll: &Epoll, number: u64, command: Command) -> Option<()> {
        // A kick may be behind another file after this.
        self.disarm(epoll);
        match self.service.time_to_finish(&command) {
            // Waiting here would keep the other queues waiting.
            Some(time) if self.service.finish(Duration::ZERO) > 0 => {
                self.waiting = Some((number, command, Instant::now() + time));
                Some(())
            }
            _ => self.service.obey(number, command).then_some(()),
        }
    }

    /// Obeys the command that waits if it can be obeyed now.
    #[cold]
    fn finish(&mut self) -> Turn {
        let left = self.service.finish(Duration::ZERO);
        let is_time =
            |(_, _, until): &mut (u64, Command, Instant)| left == 0 || Instant::now() >= *until;
        match self.waiting.take_if(is_time) {
            Some((number, command, _)) => match self.service.obey(number, command) {
                true => Turn::Busy,
                false => Turn::Gone,
            },
            None => Turn::Busy,
        }
    }

    /// Has kicks and completions show.
    fn show(&mut self, epoll: &Epoll, place: u64) -> nix::Result<()> {
        let event = || EpollEvent::new(EpollFlags::EPOLLIN, place);
        let service = &self.service;
        let armed = self.armed.get_or_insert_default();
        if service.poller.as_ref().is_some_and(Poller::is_running) {
            epoll.add(service.kick_fd(), event())?;
            armed.kick = true;
        }
        if service.poller.as_ref().map_or(0, Poller::in_flight) > 0
            && let Some(completions) = service.backend.completion_fd()
        {
            epoll.add(completions, event())?;
            armed.completions = true;
        }
        Ok(())
    }
}

impl<Q: BackendQueue, N: Notifier> Member for Tenant<Q, N> {
    #[inline]
    fn turn(&mut self, epoll: &Epoll) -> Turn {
        if let Some(poller) = &self.service.poller {
            poller.enter();
        }
        if self.waiting.is_some() {
            return self.finish();
        }
        if let Some((number, command)) = self.service.end.take() {
            return match self.obey(epoll, number, command) {
                Some(()) => Turn::Busy,
                None => Turn::Gone,
            };
        }
        match self.service.step() {
            Step::Busy => {
                if self.armed.is_some() {
                    self.disarm(epoll);
                }
                Turn::Busy
            }
            Step::Holding => Turn::Holding,
            Step::Idle => Turn::Idle,
            Step::Nothing => Turn::Nothing,
        }
    }

    fn arm(&mut self, epoll: &Epoll, place: u64) -> bool {
        if self.armed.is_some() && self.service.may_sleep() {
            return true;
        }
        self.disarm(epoll);
        let service = &mut self.service;
        if let Some(poller) = &service.poller {
            poller.enter();
        }
        let is_running = service.poller.as_ref().is_some_and(Poller::is_running);
        if !service.may_sleep() || (is_running && !service.arm()) {
            return false;
        }
        let shown = self.show(epoll, place).is_ok();
        let service = &self.service;
        let in_flight = service.poller.as_ref().map_or(0, Poller::in_flight);
        // A backend that has finished all may signal no more.
        if !shown || (in_flight > 0 && !self.armed.is_some_and(|armed| armed.completions)) {
            self.disarm(epoll);
            return false;
        }
        service.counters.sleeps.add(1);
        if in_flight == 0 {
            service.asleep.begin();
        }
        true
    }

    #[cold]
    fn disarm(&mut self, epoll: &Epoll) {
        let Some(armed) = self.armed.take() else {
            return;
        };
        let service = &mut self.service;
        service.asleep.end();
        // One that is gone shows no more.
        if armed.kick {
            let _ = epoll.delete(service.kick_fd());
            service.counters.kicks.add(count(service.kick_fd()));
        }
        if armed.completions
            && let Some(completions) = service.backend.completion_fd()
        {
            let _ = epoll.delete(completions);
        }
        if let Some(poller) = &service.poller {
            poller.enter();
        }
        service.suppress_kicks();
    }
}
