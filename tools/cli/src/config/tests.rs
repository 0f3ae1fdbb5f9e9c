//! What is understood, and what is said of what is not.

use pollux_dataplane::worker::PollMode;

use super::*;

const SOUND: &str = "# two disks
[defaults]
poll = \"busy\"
queue_size = 256

[[device]]
name = \"d0\"
backend = \"null,size=1G\"
attach = \"virtio\"

[[device]]
name = \"d1\"
backend = \"ram,size=1M\"
queue_size = 128
cpus = [0]
";

fn devices(file: &str, text: &str) -> Result<Vec<Wanted>, Mistake> {
    understand(file, text).map(|(_, plan)| plan.devices)
}

fn refused(from: &str, to: &str) -> String {
    let text = SOUND.replace(from, to);
    assert_ne!(text, SOUND, "{from} is not there");
    devices("a.toml", &text).expect_err(to).to_string()
}

#[test]
fn a_device_has_its_own_keys_before_the_defaults() {
    let devices = devices("a.toml", SOUND).unwrap();
    let sizes: Vec<u16> = devices.iter().map(|it| it.options.queue_size).collect();
    assert_eq!(sizes, [256, 128]);
    assert!(devices[0].driver.is_some() && devices[1].driver.is_none());
    assert_eq!(devices[1].options.cpus, Some(vec![0]));
    assert_eq!(devices[0].keys["poll"], "busy");
    assert_eq!(devices[0].keys["irq_hold_us"], "500");
}

#[test]
fn what_is_shown_means_the_same() {
    let (document, first) = understand("a.toml", &SOUND.replace("d1", "007")).unwrap();
    let text = pollux_toml::to_string(&document);
    let again = devices("again", &text).unwrap_or_else(|e| panic!("{e}: {text}"));
    let keys = |wanted: &[Wanted]| wanted.iter().map(|it| it.keys.clone()).collect::<Vec<_>>();
    assert_eq!(keys(&first.devices), keys(&again));
}

#[test]
fn mistakes_are_placed_and_say_what_to_do() {
    for (from, to, expected) in [
        (
            "cpus",
            "cpu",
            "a.toml:15:1: unknown key `cpu`; did you mean `cpus`?",
        ),
        (
            "poll =",
            "pol =",
            "a.toml:3:1: unknown key `pol`; did you mean `poll`?",
        ),
        (
            "\"busy\"",
            "\"fast\"",
            "a.toml:3:1: invalid value 'fast' for `poll`",
        ),
        (
            "\"busy\"",
            "1.5",
            "a.toml:3:1: poll: neither text nor a number",
        ),
        (
            "128",
            "100",
            "a.toml:11:1: queue size 100 is not a power of two",
        ),
        (
            "\"d1\"",
            "\"d0\"",
            "a.toml:12:1: device d0 is described twice",
        ),
        (
            "name = \"d1\"\n",
            "",
            "a.toml:11:1: no name: a device needs one",
        ),
        ("[0]", "[999]", "a.toml:11:1: CPU 999 does not exist"),
        (
            "ram,size=1M",
            "rum,size=1M",
            "a.toml:13:1: invalid value 'rum,size=1M' for `backend`",
        ),
        (
            "[defaults]",
            "[default]",
            "a.toml:2:2: unknown field `default`",
        ),
        (
            "poll = \"busy\"",
            "name = \"x\"",
            "a.toml:3:1: name: each device has its own",
        ),
        (
            "cpus = [0]",
            "vhost_user = \"/s\"\nattach = \"vhost\"",
            "cannot be used with",
        ),
        ("[0]\n", "[0", "a.toml:15:"),
    ] {
        let said = refused(from, to);
        assert!(said.contains(expected), "{said}");
        assert!(!said.contains("--") && !said.contains('\n'), "{said}");
    }
}

#[test]
fn an_empty_file_is_no_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pollux.toml");
    std::fs::write(&path, " \n").unwrap();
    assert!(
        read(&path)
            .unwrap_err()
            .to_string()
            .contains("half-written")
    );
    std::fs::write(&path, "# nothing yet\n").unwrap();
    assert!(plan(&path).unwrap().devices.is_empty());
    let absent = read(&folder.path().join("none")).unwrap_err().to_string();
    assert!(
        absent.contains("none: ") && absent.contains("name the file"),
        "{absent}"
    );
}

#[test]
fn a_daemon_has_so_many_devices() {
    let device = |n: usize| format!("[[device]]\nname = \"d{n}\"\nbackend = \"null,size=1M\"\n");
    let text = |count| (0..count).map(device).collect::<String>();
    assert_eq!(devices("a", &text(DEVICES_MAX)).unwrap().len(), DEVICES_MAX);
    let said = devices("a", &text(DEVICES_MAX + 1))
        .unwrap_err()
        .to_string();
    assert!(said.contains("more than 256 devices"), "{said}");
}

#[test]
fn the_packages_file_and_the_manuals_example_are_sound() {
    assert!(
        devices("a", include_str!("../../package/pollux.toml"))
            .unwrap()
            .is_empty()
    );
    let manual = include_str!("../../man/pollux.toml.5").replace("\\(dq", "\"");
    let (_, example) = manual.split_once(".EX\n").unwrap();
    let (example, _) = example.split_once(".EE").unwrap();
    let example = example.replace("cpus = \"2,3\"", "cpus = \"0,1\"");
    assert_eq!(devices("a", &example).unwrap().len(), 2);
}

const POOLED: &str = "[defaults]
poll = \"busy\"

[[pool]]
name = \"small\"
cpus = [0]
poll = \"event\"

[[device]]
name = \"d0\"
backend = \"null,size=1G\"
pool = \"small\"

[[device]]
name = \"d1\"
backend = \"null,size=1G\"
";

#[test]
fn a_device_in_a_pool_leaves_waiting_to_it() {
    let (document, plan) = understand("a.toml", POOLED).unwrap();
    assert_eq!(plan.pools[0].cpus, [0]);
    assert_eq!(plan.pools[0].mode, PollMode::Event);
    // A default that only a thread of its own can have is for the other device.
    assert!(!plan.devices[0].keys.contains_key("poll"));
    assert_eq!(plan.devices[1].keys["poll"], "busy");
    // Shown and read again, nothing is otherwise.
    let text = pollux_toml::to_string(&document);
    let (_, again) = understand("again", &text).unwrap_or_else(|e| panic!("{e}: {text}"));
    assert_eq!(again.pools, plan.pools);
    assert_eq!(again.devices[0].keys, plan.devices[0].keys);
}

#[test]
fn a_device_of_vhost_user_leaves_what_is_of_vduse_alone() {
    let text = SOUND
        .replace("poll = \"busy\"\n", "poll = \"busy\"\numem = \"anon\"\n")
        .replace("cpus = [0]\n", "vhost_user = \"/run/d1.vhost\"\n");
    let (document, plan) = understand("a.toml", &text).unwrap();
    assert_eq!(plan.devices[0].keys["umem"], "anon");
    let other = &plan.devices[1].keys;
    assert!(!other.contains_key("umem") && !other.contains_key("irq_cpus"));
    assert_eq!(other["poll"], "busy");
    let text = pollux_toml::to_string(&document);
    let (_, again) = understand("again", &text).unwrap_or_else(|e| panic!("{e}: {text}"));
    assert_eq!(again.devices[1].keys, plan.devices[1].keys);
}

#[test]
fn mistakes_about_pools_are_placed() {
    for (from, to, expected) in [
        (
            "pool = \"small\"",
            "pool = \"smal\"",
            "a.toml:12:1: no pool 'smal'; did you mean 'small'?",
        ),
        ("cpus = [0]\n", "", "a.toml:4:1: no cpus: "),
        ("name = \"small\"\n", "", "a.toml:4:1: no name: "),
        (
            "cpus = [0]",
            "cpus = [999]",
            "a.toml:6:1: CPU 999 does not exist",
        ),
        (
            "cpus = [0]",
            "cpu = [0]",
            "a.toml:6:1: unknown key `cpu`; did you mean `cpus`?",
        ),
        (
            "pool = \"small\"",
            "pool = \"small\"\ncpus = [0]",
            "cannot be used with",
        ),
        (
            "[[device]]\nname = \"d1\"",
            "[[pool]]\nname = \"small\"\ncpus = [0]\n[[device]]\nname = \"d1\"",
            "pool small is described twice",
        ),
    ] {
        let text = POOLED.replacen(from, to, 1);
        assert_ne!(text, POOLED, "{from} is not there");
        let said = understand("a.toml", &text).expect_err(to).to_string();
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn disks_are_below_the_paths_that_there_are() {
    let text = "paths = [\"/srv/images\", \"/dev\"]
[[device]]
name = \"d0\"
backend = \"delay,latency=1ms:file,path=/srv/images/d0,size=1G\"
";
    let (document, plan) = understand("a.toml", text).unwrap();
    assert!(plan.paths.is_some());
    let shown = pollux_toml::to_string(&document);
    assert!(
        shown.starts_with("paths = [\"/srv/images\", \"/dev\"]"),
        "{shown}"
    );
    let (_, again) = understand("again", &shown).unwrap_or_else(|e| panic!("{e}: {shown}"));
    assert_eq!(again.paths, plan.paths);
    let (_, anywhere) = understand("a.toml", SOUND).unwrap();
    assert_eq!(anywhere.paths, None);
    for (from, to, expected) in [
        (
            "path=/srv/images/d0",
            "path=/srv/d0",
            "a.toml:4:1: /srv/d0 is outside of `paths` (/srv/images, /dev)",
        ),
        (
            "file,path=/srv/images/d0,size=1G",
            "nvme-vfio,pci=0000:00:10.0",
            "",
        ),
        (
            "\"/dev\"",
            "\"dev\"",
            "a.toml:1:1: 'dev' in `paths` is no absolute path",
        ),
        ("[\"/srv/images\", \"/dev\"]", "\"/srv\"", "a.toml:1:9: "),
        ("[\"/srv/images\", \"/dev\"]", "[]", "none"),
        ("paths", "path", "did you mean `paths`?"),
    ] {
        let text = text.replacen(from, to, 1);
        let said = match understand("a.toml", &text) {
            Err(mistake) => mistake.to_string(),
            Ok(_) => String::new(),
        };
        assert!(
            said.contains(expected) && said.is_empty() == expected.is_empty(),
            "{to}: {said}"
        );
    }
}
