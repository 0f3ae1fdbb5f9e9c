//! CPU masks as the kernel prints and parses them: hexadecimal groups of 32 CPUs, highest first,
//! separated by commas.

const GROUP_BITS: usize = 32;

/// The CPUs in a mask, ascending; `None` if it is none.
pub(super) fn parse(text: &str) -> Option<Vec<usize>> {
    let mut cpus = Vec::new();
    for (group, digits) in text.rsplit(',').enumerate() {
        let bits = u32::from_str_radix(digits.trim(), 16).ok()?;
        let set = (0..GROUP_BITS).filter(|&bit| bits >> bit & 1 == 1);
        cpus.extend(set.map(|bit| group * GROUP_BITS + bit));
    }
    Some(cpus)
}

/// The mask of these CPUs; "0" of none.
pub(super) fn format(cpus: &[usize]) -> String {
    let groups = cpus
        .iter()
        .max()
        .map_or(1, |&highest| highest / GROUP_BITS + 1);
    let mut bits = vec![0_u32; groups];
    for &cpu in cpus {
        bits[cpu / GROUP_BITS] |= 1 << (cpu % GROUP_BITS);
    }
    let mut highest_first = bits.iter().rev();
    let mut text = highest_first
        .next()
        .map(|group| format!("{group:x}"))
        .unwrap_or_default();
    for group in highest_first {
        text.push_str(&format!(",{group:08x}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_go_both_ways() {
        for (text, cpus) in [
            ("0", vec![]),
            ("1", vec![0]),
            ("3", vec![0, 1]),
            ("80000000", vec![31]),
            ("1,00000000", vec![32]),
            ("8,00000001,00000002", vec![1, 32, 67]),
        ] {
            assert_eq!(format(&cpus), text);
            assert_eq!(parse(text), Some(cpus));
        }
    }

    #[test]
    fn what_is_no_mask_is_none() {
        assert_eq!(parse(""), None);
        assert_eq!(parse("x"), None);
        assert_eq!(parse("1,,1"), None);
    }
}
