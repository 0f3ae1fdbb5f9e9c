//! Filters of system calls (seccomp(2)), compiled by the crate seccompiler.

use std::collections::BTreeMap;

use nix::errno::Errno;
use nix::libc::c_long;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch, apply_filter,
};

/// What becomes of a call that a filter forbids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Breach {
    /// The process ends, with SIGSYS and a core dump.
    Kill,
    /// It is logged by the kernel, and carried out.
    Log,
}

/// A system call, or some uses of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) number: c_long,
    pub(super) with: With,
}

/// The arguments with which it is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum With {
    Any,
    /// The argument of this index is this.
    Argument(u8, u32),
    /// The argument of this index has none of these bits.
    NoBits(u8, u32),
}

/// A compiled filter.
#[derive(Debug)]
pub(super) struct Filter(BpfProgram);

impl Breach {
    fn action(self) -> SeccompAction {
        match self {
            Self::Kill => SeccompAction::KillProcess,
            Self::Log => SeccompAction::Log,
        }
    }
}

impl With {
    /// Returns the rule for it; none for all uses.
    fn rule(self) -> Result<Option<SeccompRule>, BackendError> {
        let (index, operator, value) = match self {
            Self::Any => return Ok(None),
            Self::Argument(index, value) => (index, SeccompCmpOp::Eq, value),
            Self::NoBits(index, bits) => (index, SeccompCmpOp::MaskedEq(bits.into()), 0),
        };
        // The kernel looks at the lower half of all that are compared here.
        let length = SeccompCmpArgLen::Dword;
        let condition = SeccompCondition::new(index, length, operator, value.into())?;
        SeccompRule::new(vec![condition]).map(Some)
    }
}

impl Filter {
    /// Returns a filter that lets `calls` pass and nothing else.
    pub(super) fn only(calls: &[Call], breach: Breach) -> Result<Self, seccompiler::Error> {
        let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
        for call in calls {
            let of_call = rules.entry(call.number).or_default();
            of_call.extend(call.with.rule()?);
        }
        Self::compile(rules, breach.action(), SeccompAction::Allow)
    }

    /// Returns a filter that lets all pass but `calls`.
    pub(super) fn all_but(calls: &[c_long], breach: Breach) -> Result<Self, seccompiler::Error> {
        let rules = calls.iter().map(|number| (*number, Vec::new())).collect();
        Self::compile(rules, SeccompAction::Allow, breach.action())
    }

    /// Returns a filter that lets all pass but `calls`, which fail for lack of a right.
    pub(super) fn refusing(calls: &[c_long]) -> Result<Self, seccompiler::Error> {
        let rules = calls.iter().map(|number| (*number, Vec::new())).collect();
        let refuse = SeccompAction::Errno(Errno::EACCES as u32);
        Self::compile(rules, SeccompAction::Allow, refuse)
    }

    fn compile(
        rules: BTreeMap<i64, Vec<SeccompRule>>,
        otherwise: SeccompAction,
        matched: SeccompAction,
    ) -> Result<Self, seccompiler::Error> {
        let architecture = TargetArch::try_from(std::env::consts::ARCH)?;
        let filter = SeccompFilter::new(rules, otherwise, matched, architecture)?;
        Ok(Self(filter.try_into()?))
    }

    /// Has the kernel apply it to the calling thread, and to those that it starts, for good.
    pub(super) fn apply(&self) -> Result<(), seccompiler::Error> {
        apply_filter(&self.0)
    }
}
