//! Sizes in bytes, as people write them.

/// Reads a number of bytes with an optional suffix K, M, G or T, powers of 1024 as QEMU and fio
/// have them.
///
/// # Errors
/// What is not a number, or more than 2^64 bytes.
pub fn bytes(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.char_indices().last() {
        Some((at, 'K' | 'k')) => (&text[..at], 10),
        Some((at, 'M' | 'm')) => (&text[..at], 20),
        Some((at, 'G' | 'g')) => (&text[..at], 30),
        Some((at, 'T' | 't')) => (&text[..at], 40),
        _ => (text, 0),
    };
    let number = digits.parse::<u64>().map_err(|e| e.to_string())?;
    number
        .checked_mul(1 << shift)
        .ok_or_else(|| "more than 2^64 bytes".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_binary_suffixes() {
        assert_eq!(bytes("8G"), Ok(8 << 30));
        assert_eq!(bytes("512"), Ok(512));
        assert_eq!(bytes("4k"), Ok(4096));
        assert!(bytes("G").is_err() && bytes("").is_err() && bytes("99999999T").is_err());
    }
}
