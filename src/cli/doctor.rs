//! `lakh doctor`: reads the live host and says, line by line, what fits and what to change.

mod table;

use crate::meter::{Host, Limit, Plan, Shortfall};
use std::io::{self, Write};
use table::{Line, Verdict, count, mebibytes};

/// Writes the examination for `connections` to `out`; true when they fit on this host.
///
/// # Errors
/// When `out` can't be written to.
pub fn run(connections: u64, host: &Host, out: &mut impl Write) -> io::Result<bool> {
    let plan = Plan::sketch(connections, None, host);
    let shortfalls = plan.shortfalls(None, host);
    let lines = examine(&plan, &shortfalls, host);
    write_head(connections, host, out)?;
    table::write(&lines, out)?;
    write_verdict(&plan, &shortfalls, out)?;
    Ok(shortfalls.is_empty())
}

fn examine(plan: &Plan, shortfalls: &[Shortfall], host: &Host) -> Vec<Line> {
    let mut lines = hard_limits(plan, shortfalls, host);
    lines.extend(queues(plan, host));
    lines.extend(buffers(plan, host));
    lines.extend(memory_habits(host));
    lines
}

/// What decides whether the connections fit.
fn hard_limits(plan: &Plan, shortfalls: &[Shortfall], host: &Host) -> Vec<Line> {
    let hard = |limit, item, is, needs| hard_limit(shortfalls, limit, item, is, needs);
    let threads = [host.threads_max, host.pid_max, host.cgroup_pids.left()];
    let memory = format!(
        "{}: {} ours, {} the kernel's",
        mebibytes(plan.user_bytes.saturating_add(plan.kernel_bytes)),
        mebibytes(plan.user_bytes),
        mebibytes(plan.kernel_bytes)
    );
    let mut lines = vec![
        hard(
            Limit::Descriptors,
            "descriptors per table",
            host.nofile_hard.map(count),
            count(plan.descriptors_per_table),
        ),
        tables(plan),
        at_least("fs.nr_open", host.nr_open, plan.descriptors_per_table),
        hard(Limit::Files, "fs.file-max", host.file_max.map(count), count(plan.files)),
        hard(Limit::Threads, "threads", threads.into_iter().flatten().min().map(count), count(plan.threads)),
        hard(Limit::Memory, "memory left", host.memory_left().map(mebibytes), memory),
        cgroup("cgroup memory left", host.cgroup_memory.left().map(mebibytes)),
        cgroup("cgroup tasks left", host.cgroup_pids.left().map(count)),
    ];
    if let Some(limit) = host.conntrack.limit {
        let needs = match host.conntrack.used {
            Some(0) => "nothing, none is tracked".to_owned(),
            used => count(plan.connections.saturating_add(used.unwrap_or(0))),
        };
        lines.push(hard(Limit::Conntrack, "nf_conntrack_max", Some(count(limit)), needs));
    }
    lines
}

fn hard_limit(shortfalls: &[Shortfall], limit: Limit, item: &'static str, is: Option<String>, needs: String) -> Line {
    let shortfall = shortfalls.iter().find(|shortfall| shortfall.limit == limit);
    let verdict = match (shortfall, &is) {
        (Some(_), _) => Verdict::Change,
        (None, Some(_)) => Verdict::Ok,
        (None, None) => Verdict::Unknown,
    };
    let remedy = shortfall.map_or_else(String::new, |shortfall| shortfall.remedy.clone());
    let is = is.unwrap_or_default();
    Line { verdict, item, is, needs, remedy }
}

/// Whether each shard has a descriptor table of its own.
fn tables(plan: &Plan) -> Line {
    let shards = count(plan.shards as u64);
    let (verdict, is, needs, remedy) = if plan.own_tables {
        (Verdict::Ok, "own, one a shard", format!("{shards} shards"), "")
    } else {
        let remedy = "unshare(CLONE_FILES) is refused, so all shards share one table and its lock: allow it in the seccomp profile";
        (Verdict::Advice, "one, shared", "own, one a shard".to_owned(), remedy)
    };
    Line { verdict, item: "descriptor tables", is: is.to_owned(), needs, remedy: remedy.to_owned() }
}

/// Where connections wait before they are accepted, and what opens new ones.
fn queues(plan: &Plan, host: &Host) -> Vec<Line> {
    let ports = host.ports_per_source();
    let sources = match plan.source_addresses {
        1 => "enough for a load test from one address".to_owned(),
        more => format!("{} source addresses for a load test", count(more)),
    };
    vec![
        at_least("net.core.somaxconn", host.somaxconn, plan.backlog()),
        at_least("net.ipv4.tcp_max_syn_backlog", host.syn_backlog, plan.backlog()),
        Line {
            verdict: if ports.is_some() { Verdict::Ok } else { Verdict::Unknown },
            item: "ports per source address",
            is: ports.map(count).unwrap_or_default(),
            needs: sources,
            remedy: String::new(),
        },
    ]
}

/// The kernel's TCP buffers; an idle connection has none.
fn buffers(plan: &Plan, host: &Host) -> Vec<Line> {
    let pages = plan.tcp_pages();
    let mut most = at_least("net.ipv4.tcp_mem (pages)", host.tcp_mem.map(|[_, _, most]| most), pages);
    if !most.remedy.is_empty() {
        most.remedy = format!("sysctl -w net.ipv4.tcp_mem='{} {} {pages}'", pages / 2, pages / 4 * 3);
    }
    let least = |item, knob: Option<[u64; 3]>| {
        let verdict = match knob {
            None => Verdict::Unknown,
            Some([least, _, _]) if least > LEAST_BUFFER => Verdict::Advice,
            Some(_) => Verdict::Ok,
        };
        let remedy = match (verdict, knob) {
            (Verdict::Advice, Some([_, first, most])) => {
                format!(
                    "sysctl -w {item}='{LEAST_BUFFER} {first} {most}': each socket keeps the least even under pressure"
                )
            }
            _ => String::new(),
        };
        let is = knob.map(|knob| knob.map(|bytes| bytes.to_string()).join(" ")).unwrap_or_default();
        Line { verdict, item, is, needs: format!("{LEAST_BUFFER} as the first number"), remedy }
    };
    vec![most, least("net.ipv4.tcp_rmem", host.tcp_rmem), least("net.ipv4.tcp_wmem", host.tcp_wmem)]
}

/// What the least TCP buffer is on a Linux as it comes: one page.
const LEAST_BUFFER: u64 = 4_096;

/// Settings under which our memory is not what we touched.
fn memory_habits(host: &Host) -> Vec<Line> {
    let huge = host.huge_pages.as_deref();
    let overcommit = host.overcommit;
    let habit = |item, is: Option<String>, harmful: bool, needs: &str, remedy: &str| Line {
        verdict: match (&is, harmful) {
            (None, _) => Verdict::Unknown,
            (_, true) => Verdict::Advice,
            (_, false) => Verdict::Ok,
        },
        item,
        is: is.unwrap_or_default(),
        needs: needs.to_owned(),
        remedy: if harmful { remedy.to_owned() } else { String::new() },
    };
    vec![
        habit(
            "transparent huge pages",
            huge.map(str::to_owned),
            huge == Some("always"),
            "madvise or never",
            "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled: slots nobody uses would take memory by 2 MiB",
        ),
        habit(
            "vm.overcommit_memory",
            overcommit.map(count),
            overcommit == Some(2),
            "0 or 1",
            "sysctl -w vm.overcommit_memory=0: reserved slots count as used under 2",
        ),
    ]
}

/// A knob that should be `needs` or more; less is no hindrance, but worth advice.
fn at_least(item: &'static str, is: Option<u64>, needs: u64) -> Line {
    let verdict = match is {
        None => Verdict::Unknown,
        Some(is) if is < needs => Verdict::Advice,
        Some(_) => Verdict::Ok,
    };
    let remedy = if verdict == Verdict::Advice { format!("sysctl -w {item}={needs}") } else { String::new() };
    Line { verdict, item, is: is.map(count).unwrap_or_default(), needs: count(needs), remedy }
}

fn cgroup(item: &'static str, left: Option<String>) -> Line {
    let is = left.unwrap_or_else(|| "no limit".to_owned());
    Line { verdict: Verdict::Ok, item, is, needs: "counted above".to_owned(), remedy: String::new() }
}

fn write_head(connections: u64, host: &Host, out: &mut impl Write) -> io::Result<()> {
    let kernel = host.kernel.as_deref().unwrap_or("of unknown release");
    let memory = host.memory_total.map_or_else(String::new, |bytes| format!(", {}", mebibytes(bytes)));
    let cores = if host.cores == 1 { "1 core".to_owned() } else { format!("{} cores", host.cores) };
    writeln!(out, "Can this host hold {} connections? Linux {kernel}, {cores}{memory}\n", count(connections))
}

fn write_verdict(plan: &Plan, shortfalls: &[Shortfall], out: &mut impl Write) -> io::Result<()> {
    match shortfalls.len() {
        0 => writeln!(
            out,
            "It fits: {} shards, at most {} connections on each.",
            count(plan.shards as u64),
            count(plan.connections_per_shard)
        ),
        1 => writeln!(out, "It does not fit: change the line marked CHANGE."),
        more => writeln!(out, "It does not fit: change the {more} lines marked CHANGE."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meter::host::Usage;

    fn examined(connections: u64, host: &Host) -> (bool, String) {
        let mut out = Vec::new();
        let fits = run(connections, host, &mut out).expect("a vector takes everything");
        (fits, String::from_utf8(out).expect("text"))
    }

    /// The line about `item`, and the remedy below it if there is one.
    fn about<'t>(text: &'t str, item: &str) -> (&'t str, Option<&'t str>) {
        let mut lines = text.lines().skip_while(|line| !line.contains(item));
        let line = lines.next().unwrap_or_else(|| panic!("no line about {item} in\n{text}"));
        (line, lines.next().and_then(|next| next.trim_start().strip_prefix("-> ")))
    }

    fn roomy() -> Host {
        Host {
            kernel: Some("6.18.44".to_owned()),
            cores: 2,
            memory_total: Some(24 << 30),
            memory_available: Some(20 << 30),
            nofile_soft: Some(1_024),
            nofile_hard: Some(20_000),
            own_tables: true,
            nr_open: Some(1 << 20),
            file_max: Some(2_466_170),
            files_open: Some(500),
            threads_max: Some(192_730),
            pid_max: Some(32_768),
            somaxconn: Some(4_096),
            syn_backlog: Some(4_096),
            tcp_mem: Some([287_898, 383_867, 575_796]),
            tcp_rmem: Some([4_096, 131_072, 33_554_432]),
            tcp_wmem: Some([4_096, 16_384, 4_194_304]),
            port_range: Some([32_768, 60_999]),
            huge_pages: Some("madvise".to_owned()),
            overcommit: Some(0),
            ..Host::default()
        }
    }

    #[test]
    fn a_roomy_host_fits_without_a_word_of_advice() {
        let (fits, text) = examined(100_000, &roomy());
        assert!(fits, "{text}");
        assert!(!text.contains("->") && !text.contains("CHANGE") && !text.contains("unknown"), "{text}");
        assert!(text.contains("It fits: 6 shards, at most 17,"), "{text}");
    }

    #[test]
    fn a_container_without_unshare_is_told_both_ways_out() {
        let (fits, text) = examined(100_000, &Host { own_tables: false, ..roomy() });
        assert!(!fits);
        let (line, remedy) = about(&text, "descriptors per table");
        assert!(line.starts_with("CHANGE") && line.contains("20,000") && line.contains("100,136"), "{line}");
        assert!(remedy.is_some_and(|remedy| remedy.contains("LimitNOFILE=100136") && remedy.contains("unshare")));
        assert!(about(&text, "descriptor tables").0.starts_with("advice"));
    }

    #[test]
    fn a_small_host_lists_each_limit_to_change() {
        let small = Host {
            memory_available: Some(256 << 20),
            nofile_hard: Some(1_024),
            own_tables: false,
            file_max: Some(50_000),
            cgroup_pids: Usage { limit: Some(50), used: Some(10) },
            conntrack: Usage { limit: Some(65_536), used: Some(12) },
            ..roomy()
        };
        let (fits, text) = examined(100_000, &small);
        assert!(!fits);
        for item in ["descriptors per table", "fs.file-max", "threads", "memory left", "nf_conntrack_max"] {
            let (line, remedy) = about(&text, item);
            assert!(line.starts_with("CHANGE") && remedy.is_some(), "{item}:\n{text}");
        }
        assert!(text.contains("change the 5 lines marked CHANGE"), "{text}");
    }

    #[test]
    fn slow_knobs_are_advice_and_fail_nothing() {
        let slow = Host {
            somaxconn: Some(128),
            tcp_mem: Some([1, 2, 3]),
            tcp_rmem: Some([65_536, 131_072, 33_554_432]),
            huge_pages: Some("always".to_owned()),
            overcommit: Some(2),
            ..roomy()
        };
        let (fits, text) = examined(100_000, &slow);
        assert!(fits, "{text}");
        assert_eq!(about(&text, "net.core.somaxconn").1, Some("sysctl -w net.core.somaxconn=1024"));
        assert_eq!(about(&text, "tcp_mem").1, Some("sysctl -w net.ipv4.tcp_mem='100000 150000 200000'"));
        for item in ["tcp_rmem", "huge pages", "overcommit"] {
            assert!(about(&text, item).0.starts_with("advice"), "{text}");
        }
    }

    #[test]
    fn what_the_host_hides_is_unknown_and_fails_nothing() {
        let (fits, text) = examined(100_000, &Host { cores: 1, own_tables: true, ..Host::default() });
        assert!(fits, "{text}");
        assert!(about(&text, "fs.file-max").0.starts_with("unknown"));
    }

    #[test]
    fn this_host_gets_an_answer() {
        let (_, text) = examined(100_000, &Host::read());
        println!("{text}");
        assert!(text.lines().last().is_some_and(|line| line.starts_with("It ")));
    }
}
