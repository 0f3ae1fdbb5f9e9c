//! The scenarios that come with `pollux`.

use super::{Scenario, parse};

const FILES: [(&str, &str); 7] = [
    (
        "loopback-null.toml",
        include_str!("builtin/loopback-null.toml"),
    ),
    (
        "loopback-null-indirect.toml",
        include_str!("builtin/loopback-null-indirect.toml"),
    ),
    (
        "loopback-null-packed.toml",
        include_str!("builtin/loopback-null-packed.toml"),
    ),
    (
        "loopback-null-open.toml",
        include_str!("builtin/loopback-null-open.toml"),
    ),
    (
        "loopback-ram.toml",
        include_str!("builtin/loopback-ram.toml"),
    ),
    (
        "vhost-user-null.toml",
        include_str!("builtin/vhost-user-null.toml"),
    ),
    (
        "vhost-user-ram.toml",
        include_str!("builtin/vhost-user-ram.toml"),
    ),
];

/// Returns the scenarios that come with `pollux`.
///
/// # Panics
///
/// Never: a test reads each of them.
pub fn builtin() -> Vec<Scenario> {
    let read = |(file, text): (&str, &str)| parse(file, text).expect("a sound scenario");
    FILES.into_iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_sound_has_the_name_of_its_file_and_says_what_it_shows() {
        for (scenario, (file, _)) in builtin().into_iter().zip(FILES) {
            assert_eq!(format!("{}.toml", scenario.name), file);
            assert!(
                !scenario.shows.is_empty() && !scenario.shows.contains('\n'),
                "{file}"
            );
            assert!(scenario.least_ms() < 120_000, "{file}");
        }
    }
}
