//! Zeros.

use super::Segment;

const PIECE_BYTES: usize = 1 << 14;
static ZEROS: [u8; PIECE_BYTES] = [0; PIECE_BYTES];

/// Fills `segment` with zeros.
#[inline]
pub fn zero(segment: &Segment<'_>) {
    let mut rest = *segment;
    while !rest.is_empty() {
        rest.copy_from(&ZEROS);
        match rest.offset(PIECE_BYTES.min(rest.len())) {
            Ok(next) => rest = next,
            Err(_) => return,
        }
    }
}
