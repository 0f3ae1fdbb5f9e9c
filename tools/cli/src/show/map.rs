//! `pollux status --map`.

use pollux_control::device::QueueMap;

use crate::output::{line, table};

/// Prints a line for each queue.
pub(super) fn draw(queues: &[QueueMap]) {
    if queues.is_empty() {
        return line("no device is served");
    }
    let mut table = table([
        "DEVICE",
        "QUEUE",
        "SUBMIT CPUS",
        "WORKER CPU",
        "NODE",
        "THREAD",
        "INTERRUPT CPUS",
    ]);
    for queue in queues {
        let thread = queue.pool.as_ref();
        table.add_row([
            queue.device.clone(),
            queue.index.to_string(),
            cpus(queue.submit_cpus.as_deref()),
            queue.worker_cpu.to_string(),
            queue.worker_node.to_string(),
            thread.map_or_else(|| "its own".into(), |pool| format!("pool {pool}")),
            cpus(queue.interrupt_cpus.as_deref()),
        ]);
    }
    line(table);
}

/// Returns CPUs as the kernel lists them: `0-3,8`.
fn cpus(cpus: Option<&[usize]>) -> String {
    let Some(cpus) = cpus else {
        return "-".into();
    };
    let ranges = cpus.chunk_by(|before, after| before + 1 == *after);
    let words = ranges.filter_map(|range| match range {
        [] => None,
        [cpu] => Some(cpu.to_string()),
        [first, .., last] => Some(format!("{first}-{last}")),
    });
    words.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_a_range() {
        assert_eq!(cpus(None), "-");
        assert_eq!(cpus(Some(&[3])), "3");
        assert_eq!(cpus(Some(&[0, 1, 2, 5])), "0-2,5");
    }
}
