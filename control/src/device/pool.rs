//! Threads that the queues of many devices share, where CPUs are fewer than queues.

use std::collections::BTreeMap;

use pollux_dataplane::worker::{PollMode, SharedThread, SpawnError, ThreadConfig};

use super::OptionsError;
use super::cpus::{HostCpus, all_usable};
use super::crew::short_name;
use crate::sandbox::{Confined, WorkerCalls};

/// A pool, as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolOptions {
    /// Its name.
    pub name: String,
    /// The CPU of each thread.
    pub cpus: Vec<usize>,
    /// How its threads wait.
    pub mode: PollMode,
}

/// Why there is no such pool.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// There are no threads of that name.
    #[error("no pool {0}: describe it below [[pool]] in the configuration")]
    Unknown(String),
    /// It cannot be had.
    #[error("pool {name}: {reason}")]
    Spawn {
        /// Its name.
        name: String,
        /// Why not.
        reason: SpawnError,
    },
}

impl PoolOptions {
    /// Checks that it could be had here.
    ///
    /// # Errors
    ///
    /// [`OptionsError`] for the first CPU that is not there or not allowed.
    pub fn check(&self) -> Result<(), OptionsError> {
        Ok(all_usable(&self.cpus, &HostCpus::look().allowed)?)
    }
}

/// A pool that is there. Its threads end with their last queue after it is dropped.
#[derive(Debug)]
struct Pool {
    options: PoolOptions,
    threads: Vec<SharedThread>,
}

/// All pools of a daemon.
#[derive(Debug, Default)]
pub(crate) struct Pools {
    pools: BTreeMap<String, Pool>,
}

impl Pools {
    /// Starts the threads of a pool, `confined`, which sleep until there is a queue. One that is there is left as it is.
    ///
    /// # Errors
    ///
    /// [`PoolError`] when a thread cannot be had; no pool is there then.
    pub(crate) fn add(
        &mut self,
        options: PoolOptions,
        confined: Confined,
    ) -> Result<(), PoolError> {
        if self.pools.contains_key(&options.name) {
            return Ok(());
        }
        let thread = |(index, &cpu): (usize, &usize)| {
            SharedThread::spawn(ThreadConfig {
                name: short_name(&options.name, &format!("/{index}")),
                cpu: Some(cpu),
                mode: options.mode,
                confinement: confined
                    .worker(WorkerCalls::SHARED)
                    .map_err(SpawnError::Confine)?,
            })
        };
        let threads: Result<Vec<_>, _> = options.cpus.iter().enumerate().map(thread).collect();
        let name = options.name.clone();
        let threads = threads.map_err(|reason| PoolError::Spawn {
            name: name.clone(),
            reason,
        })?;
        self.pools.insert(name, Pool { options, threads });
        Ok(())
    }

    /// Returns whether there is a pool of that name that is not as in `options`.
    pub(crate) fn differs(&self, options: &PoolOptions) -> bool {
        let pool = self.pools.get(&options.name);
        pool.is_some_and(|pool| pool.options != *options)
    }

    /// Returns how the threads of pool `name` wait.
    ///
    /// # Errors
    ///
    /// [`PoolError::Unknown`] when there is no such pool.
    pub(super) fn mode(&self, name: &str) -> Result<PollMode, PoolError> {
        let pool = self.pools.get(name);
        let pool = pool.ok_or_else(|| PoolError::Unknown(name.into()))?;
        Ok(pool.options.mode)
    }

    /// Returns the CPUs of all threads.
    pub(crate) fn cpus(&self) -> Vec<usize> {
        let pools = self.pools.values();
        pools.flat_map(|it| it.options.cpus.clone()).collect()
    }

    /// Returns the thread of pool `name` that has the fewest queues.
    ///
    /// # Errors
    ///
    /// [`PoolError::Unknown`] when there is no such pool.
    pub(super) fn thread(&self, name: &str) -> Result<&SharedThread, PoolError> {
        let pool = self.pools.get(name);
        let threads = pool.map_or(&[][..], |pool| &pool.threads);
        let emptiest = threads.iter().min_by_key(|thread| thread.queues());
        emptiest.ok_or_else(|| PoolError::Unknown(name.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::cpus::usable_cpus;
    use super::*;

    fn options(cpus: &[usize]) -> PoolOptions {
        PoolOptions {
            name: "small".into(),
            cpus: cpus.to_vec(),
            mode: PollMode::Event,
        }
    }

    #[test]
    fn a_pool_that_is_there_stays_as_it_is() {
        let mut pools = Pools::default();
        let cpu = usable_cpus()[0];
        assert!(matches!(pools.thread("small"), Err(PoolError::Unknown(_))));
        pools.add(options(&[cpu]), Confined::default()).unwrap();
        let busy = PoolOptions {
            mode: PollMode::Busy,
            ..options(&[cpu])
        };
        assert!(pools.differs(&busy) && !pools.differs(&options(&[cpu])));
        pools.add(busy.clone(), Confined::default()).unwrap();
        assert!(pools.differs(&busy));
        assert_eq!(pools.cpus(), [cpu]);
        assert_eq!(pools.thread("small").unwrap().cpu(), Some(cpu));
    }

    #[test]
    fn a_pool_without_one_of_its_threads_is_none() {
        let mut pools = Pools::default();
        let cpus = [usable_cpus()[0], 1000];
        assert!(options(&cpus).check().is_err());
        let error = pools.add(options(&cpus), Confined::default()).unwrap_err();
        assert!(error.to_string().contains("pool small: "), "{error}");
        assert!(pools.thread("small").is_err());
    }
}
