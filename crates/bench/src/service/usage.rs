//! Processor time and memory of processes, from `/proc`.

use std::fs;

/// A process and its children.
pub fn family(parent: u32) -> Vec<u32> {
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_child = |pid: &u32| stat(*pid).is_some_and(|fields| fields.get(1) == Some(&u64::from(parent)));
    std::iter::once(parent).chain(pids.filter(is_child)).collect()
}

/// Processor time of these processes so far, in microseconds.
pub fn cpu(pids: &[u32]) -> u64 {
    // utime and stime, in hundredths of a second.
    let ticks =
        |pid: &u32| stat(*pid).map(|fields| fields.get(11).unwrap_or(&0) + fields.get(12).unwrap_or(&0));
    pids.iter().filter_map(ticks).sum::<u64>() * 10_000
}

/// The numbers of `/proc/pid/stat` after the name: state as 0, then the parent.
fn stat(pid: u32) -> Option<Vec<u64>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(") ")?;
    Some(rest.split(' ').map(|field| field.trim().parse().unwrap_or(0)).collect())
}
