//! Atomics in shared memory: the ring's own fields.
//!
//! # Safety
//!
//! A driver may write this memory at any time, so it is only ever touched through atomics. The
//! pointers stay valid because each holder keeps its mapping alive.

#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64};

use super::{Mapping, Segment};

/// What may lie in shared memory.
///
/// # Safety
///
/// Every pattern of bits is a value, and both sides may read and write it at the same time.
pub unsafe trait Shared: Send + Sync {}

// SAFETY: an atomic integer takes every pattern of bits, and is made to be accessed from both sides.
unsafe impl Shared for AtomicU8 {}
// SAFETY: as above.
unsafe impl Shared for AtomicU16 {}
// SAFETY: as above.
unsafe impl Shared for AtomicU32 {}
// SAFETY: as above.
unsafe impl Shared for AtomicU64 {}
// SAFETY: an array of those has no padding, and each element is accessed by itself.
unsafe impl<S: Shared, const N: usize> Shared for [S; N] {}

/// `2^n` elements in shared memory, indexed modulo their count.
#[derive(Debug)]
pub struct SharedArray<S> {
    first: NonNull<S>,
    mask: usize,
    _mapping: Arc<Mapping>,
    _elements: PhantomData<S>,
}

// SAFETY: `first` points into `_mapping`, which is Send and Sync and lives as long as this; the
// elements are atomics, so access from any thread is sound.
unsafe impl<S: Shared> Send for SharedArray<S> {}
// SAFETY: as above.
unsafe impl<S: Shared> Sync for SharedArray<S> {}

impl<S: Shared> SharedArray<S> {
    /// Returns `segment`, a part of `mapping`, as an array; `None` when it is not aligned or its count
    /// is no power of two. Its pages are faulted in now, so that no request waits for that.
    pub(super) fn new(segment: Segment<'_>, mapping: Arc<Mapping>) -> Option<Self> {
        let count = u16::try_from(segment.len() / size_of::<S>()).ok()?;
        let first = NonNull::new(segment.as_ptr().cast::<S>())?;
        if !count.is_power_of_two() || !first.is_aligned() {
            return None;
        }
        segment.touch();
        Some(Self {
            first,
            mask: usize::from(count) - 1,
            _mapping: mapping,
            _elements: PhantomData,
        })
    }

    /// Returns where element `index` modulo the count is in this process.
    #[inline]
    pub(crate) fn address(&self, index: u16) -> usize {
        std::ptr::from_ref(self.at(index)).addr()
    }

    /// Returns element `index` modulo the count.
    #[inline]
    pub fn at(&self, index: u16) -> &S {
        // SAFETY: `new` checked alignment and that `mask + 1` elements lie in the mapping; masking
        // keeps the offset below that.
        unsafe { self.first.add(usize::from(index) & self.mask).as_ref() }
    }
}

/// One element in shared memory.
#[derive(Debug)]
pub struct SharedCell<S>(SharedArray<S>);

impl<S: Shared> SharedCell<S> {
    pub(super) fn new(array: SharedArray<S>) -> Self {
        Self(array)
    }
}

impl<S: Shared> Deref for SharedCell<S> {
    type Target = S;

    #[inline]
    fn deref(&self) -> &S {
        self.0.at(0)
    }
}
