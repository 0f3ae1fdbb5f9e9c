//! Asking for a cache line before it is needed: the driver has just written it on another CPU.
//!
//! # Safety
//!
//! A prefetch is a hint: it reads nothing that the program sees and raises no fault, whatever the address.

#![allow(unsafe_code)]

/// Asks for the cache line at `address`, which need not be mapped.
#[inline]
pub(crate) fn prefetch(address: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: no address makes it fault, and it changes nothing but caches.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::without_provenance(address)) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}
