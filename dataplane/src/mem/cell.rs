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

use vm_memory::AtomicInteger;

use super::{Mapping, Segment};

/// `2^n` atomics in shared memory, indexed modulo their count.
#[derive(Debug)]
pub struct SharedArray<A> {
    first: NonNull<A>,
    mask: u16,
    _mapping: Arc<Mapping>,
    _elements: PhantomData<A>,
}

// SAFETY: `first` points into `_mapping`, which is Send and Sync and lives as long as this; the
// elements are atomics, so access from any thread is sound.
unsafe impl<A: Send + Sync> Send for SharedArray<A> {}

impl<A: AtomicInteger> SharedArray<A> {
    /// Returns `segment`, a part of `mapping`, as an array; `None` when it is not aligned or its count
    /// is no power of two.
    pub(super) fn new(segment: Segment<'_>, mapping: Arc<Mapping>) -> Option<Self> {
        let count = u16::try_from(segment.len() / size_of::<A>()).ok()?;
        let first = NonNull::new(segment.ptr_guard_mut().as_ptr().cast::<A>())?;
        let usable = count.is_power_of_two() && first.is_aligned();
        usable.then_some(Self {
            first,
            mask: count - 1,
            _mapping: mapping,
            _elements: PhantomData,
        })
    }

    /// Returns element `index` modulo the count.
    #[inline]
    pub fn at(&self, index: u16) -> &A {
        // SAFETY: `new` checked alignment and that `mask + 1` elements lie in the mapping; masking
        // keeps the offset below that.
        unsafe { self.first.add(usize::from(index & self.mask)).as_ref() }
    }
}

/// One atomic in shared memory.
#[derive(Debug)]
pub struct SharedCell<A>(SharedArray<A>);

impl<A: AtomicInteger> SharedCell<A> {
    pub(super) fn new(array: SharedArray<A>) -> Self {
        Self(array)
    }
}

impl<A: AtomicInteger> Deref for SharedCell<A> {
    type Target = A;

    #[inline]
    fn deref(&self) -> &A {
        self.0.at(0)
    }
}
