//! Where the gateway's heap bytes were allocated: the file of a `dhat-heap` build, read into bytes per connection.

use std::collections::HashMap;
use std::fmt::{self, Write};
use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::{Deserialize, Serialize};

use super::summary::thousands;

/// Whether this is a build that notes where every heap byte was allocated (`--features dhat-heap`).
pub(super) const PROFILED: bool = cfg!(feature = "dhat-heap");
/// The variable that tells a gateway of such a build where to write; without it, `dhat-heap.json` where it was started.
pub const HEAP_FILE: &str = "DHAT_HEAP_FILE";
/// Sites shown; the others are one row together.
const SHOWN: usize = 12;
/// Folders of `src`. A frame is told by its file: of inlined functions, a build without full debug info knows no path.
const ROOMS: [&str; 13] =
    ["actor", "admin", "cli", "config", "conn", "guard", "mcp", "meter", "monitor", "pool", "tree", "upstream", "wire"];

/// The live heap of the gateway while all clients were held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Heap {
    /// Clients that were held.
    pub connections: u64,
    /// Bytes asked for and not given back. Untouched pages count here, and are not resident.
    pub bytes: u64,
    /// The most bytes that were live at once, at any moment of the run.
    pub peak_bytes: u64,
    /// Where they were allocated, the largest first.
    pub sites: Vec<Site>,
}

/// One place of the source that allocates.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Site {
    /// The innermost function of lakh with its line, else the innermost of another crate.
    pub frame: String,
    /// Who called it from another file of lakh.
    pub caller: Option<String>,
    pub bytes: u64,
    pub blocks: u64,
    /// Its bytes at the moment of the peak.
    pub peak_bytes: u64,
}

/// The part of dhat's file that is read here, version 2 of its format.
#[derive(Deserialize)]
struct Profile {
    /// Program points: one for each different stack.
    pps: Vec<Point>,
    /// `ADDRESS: FUNCTION (FILE:LINE:COLUMN)`.
    ftbl: Vec<String>,
}

#[derive(Deserialize)]
struct Point {
    /// Bytes and blocks that were live when the profile ended.
    eb: u64,
    ebk: u64,
    /// Bytes that were live at the peak.
    gb: u64,
    /// Frames by their place in `ftbl`, innermost first.
    fs: Vec<usize>,
}

/// A file of its own for this run, to be written by the gateway.
pub(super) fn place() -> PathBuf {
    std::env::temp_dir().join(format!("lakh-heap-{}.json", std::process::id()))
}

/// Reads what the gateway wrote when it was told to stop, with `connections` clients still there.
///
/// # Errors
/// When there is no such file, or it is no heap profile.
pub(super) fn read(file: &Path, connections: u64) -> io::Result<Heap> {
    let profile: Profile = serde_json::from_str(&fs::read_to_string(file)?)?;
    Ok(profile.by_site(connections))
}

impl Profile {
    fn by_site(&self, connections: u64) -> Heap {
        let mut sites = HashMap::<_, Site>::new();
        for point in &self.pps {
            let (frame, caller) = self.place(point);
            let site = sites.entry((frame.to_string(), caller.map(|caller| caller.to_string()))).or_default();
            site.bytes += point.eb;
            site.blocks += point.ebk;
            site.peak_bytes += point.gb;
        }
        let mut sites: Vec<Site> =
            sites.into_iter().map(|((frame, caller), site)| Site { frame, caller, ..site }).collect();
        sites.sort_by(|one, two| (two.bytes, &one.frame, &one.caller).cmp(&(one.bytes, &two.frame, &two.caller)));
        let sum = |of: fn(&Site) -> u64| sites.iter().map(of).sum();
        Heap { connections, bytes: sum(|site| site.bytes), peak_bytes: sum(|site| site.peak_bytes), sites }
    }

    /// The frame that says whose bytes these are, and its caller.
    fn place(&self, point: &Point) -> (Frame<'_>, Option<Frame<'_>>) {
        let frames = || point.fs.iter().filter_map(|at| self.ftbl.get(*at)).map(|frame| Frame::read(frame));
        let mut ours = frames().filter(Frame::is_ours);
        match ours.next() {
            Some(frame) => {
                let caller = ours.find(|caller| caller.file != frame.file);
                (frame, caller)
            }
            None => (frames().find(Frame::is_of_a_crate).or_else(|| frames().next()).unwrap_or_default(), None),
        }
    }
}

/// A frame of a stack, without address, type parameters and column.
#[derive(Default)]
struct Frame<'p> {
    function: String,
    /// The last three parts of its path.
    file: &'p str,
    line: &'p str,
}

impl<'p> Frame<'p> {
    /// Reads `0x1f: function<T> (a/b/c.rs:1:2)`.
    fn read(text: &'p str) -> Self {
        let text =
            text.split_once(": ").filter(|(address, _)| address.starts_with("0x")).map_or(text, |(_, rest)| rest);
        let (function, place) = text.rsplit_once(" (").unwrap_or((text, ""));
        let mut place = place.trim_end_matches(')').split(':');
        Self {
            function: without_parameters(function),
            file: place.next().unwrap_or_default(),
            line: place.next().unwrap_or_default(),
        }
    }

    fn is_ours(&self) -> bool {
        let mut parts = self.file.split('/');
        let of_a_room = |part: Option<&str>| part.is_some_and(|part| ROOMS.contains(&part));
        let first = parts.next();
        let second = parts.next();
        // `pool/slab/grow.rs`, `src/pool/slab.rs`, `lakh/src/main.rs`; this last is also where the allocator's symbols are.
        of_a_room(first)
            || (first == Some("src") && of_a_room(second))
            || (self.file.ends_with("src/main.rs") && !self.function.starts_with("__rust"))
    }

    /// Whether the file lies in `NAME-VERSION/`, and is not dhat's own.
    fn is_of_a_crate(&self) -> bool {
        let version = self.file.split('/').next().and_then(|first| first.rsplit_once('-'));
        version
            .is_some_and(|(name, version)| name != "dhat" && version.starts_with(|digit: char| digit.is_ascii_digit()))
    }
}

impl fmt::Display for Frame<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.function.as_str(), self.file) {
            ("", "") => f.write_str("(unknown)"),
            (function, "") => f.write_str(function),
            (function, file) => write!(f, "{function} {file}:{}", self.line),
        }
    }
}

/// `Pool<T>::add` as `Pool::add`, `<Pool<T> as Default>::default::<U>` as `<Pool as Default>::default`.
fn without_parameters(function: &str) -> String {
    let mut name = String::new();
    let (mut depth, mut kept, mut before) = (0_usize, usize::from(function.starts_with('<')), ' ');
    for letter in function.chars() {
        if letter == '<' {
            depth += 1;
            if depth > kept && name.ends_with("::") {
                name.truncate(name.len() - 2);
            }
        }
        if depth <= kept {
            name.push(letter);
        }
        if letter == '>' && before != '-' && depth > 0 {
            if depth == kept {
                // The leading group is over; what follows are parameters again.
                kept = 0;
            }
            depth -= 1;
        }
        before = letter;
    }
    name
}

/// The largest sites in bytes per connection (Markdown).
pub(super) fn table(heap: &Heap) -> String {
    let each = |bytes: u64| bytes as f64 / heap.connections.max(1) as f64;
    let mut text = format!(
        "Heap of the gateway while {} clients were held: {} bytes live, {:.1} per client ({} at the peak of the run).\n\n",
        thousands(heap.connections as i64),
        thousands(heap.bytes as i64),
        each(heap.bytes),
        thousands(heap.peak_bytes as i64),
    );
    let mut row = |each: &str, bytes: &str, blocks: &str, peak: &str, frame: &str| {
        let _ = writeln!(text, "| {each:>8} | {bytes:>13} | {blocks:>10} | {peak:>13} | {frame}");
    };
    row("B/client", "bytes", "blocks", "bytes at peak", "allocated by |");
    row("-------:", "------------:", "---------:", "------------:", "--- |");
    let (shown, rest) = heap.sites.split_at(heap.sites.len().min(SHOWN));
    let rest = rest.iter().fold(Site::default(), |sum, site| Site {
        frame: format!("({} other sites)", rest.len()),
        caller: None,
        bytes: sum.bytes + site.bytes,
        blocks: sum.blocks + site.blocks,
        peak_bytes: sum.peak_bytes + site.peak_bytes,
    });
    for site in shown.iter().chain([&rest].into_iter().filter(|rest| rest.bytes > 0)) {
        let number = |number: u64| thousands(number as i64);
        let (bytes, blocks, peak) = (number(site.bytes), number(site.blocks), number(site.peak_bytes));
        let caller = site.caller.as_ref().map_or_else(String::new, |caller| format!(" for {caller}"));
        row(&format!("{:.1}", each(site.bytes)), &bytes, &blocks, &peak, &format!("{}{caller} |", site.frame));
    }
    text
}

/// The report as a page of its own.
pub(super) fn page(heap: &Heap) -> String {
    format!(
        "# Heap by site\n\n{}\n\
         Live means asked for and not given back when the gateway was told to stop, all clients being there. What is reserved \
         and was never touched counts in full, though no memory stands behind it; thread stacks, the binary and the \
         allocator's own slack are not in it. Of each stack the innermost function of lakh is named and who called it from \
         another file; of a stack without lakh, the innermost function of another crate. The whole stacks are in \
         `dhat-heap.json` (open it with Valgrind's dh_view.html).\n\
         Under dhat time and resident memory are not those of lakh.\n",
        table(heap)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What dhat writes, with the keys that are not read too.
    const MADE: &str = r#"{
        "dhatFileVersion": 2, "mode": "rust-heap", "verb": "Allocated", "bklt": true, "bkacc": false,
        "tu": "µs", "Mtu": "s", "tuth": 10, "cmd": "lakh serve", "pid": 1, "tg": 5, "te": 9,
        "pps": [
            {"tb": 9000, "tbk": 90, "tl": 1, "mb": 8000, "mbk": 80, "gb": 8000, "gbk": 80, "eb": 6000, "ebk": 60, "fs": [1, 2, 3, 4, 5]},
            {"tb": 2000, "tbk": 20, "tl": 1, "mb": 2000, "mbk": 20, "gb": 1000, "gbk": 10, "eb": 2000, "ebk": 20, "fs": [1, 6, 3, 4, 5]},
            {"tb": 700, "tbk": 7, "tl": 1, "mb": 700, "mbk": 7, "gb": 700, "gbk": 7, "eb": 700, "ebk": 7, "fs": [1, 3, 5]},
            {"tb": 500, "tbk": 1, "tl": 1, "mb": 500, "mbk": 1, "gb": 500, "gbk": 1, "eb": 500, "ebk": 1, "fs": [1, 2, 7]},
            {"tb": 30, "tbk": 1, "tl": 1, "mb": 30, "mbk": 1, "gb": 30, "gbk": 1, "eb": 30, "ebk": 1, "fs": [1, 2]},
            {"tb": 3, "tbk": 1, "tl": 1, "mb": 3, "mbk": 1, "gb": 3, "gbk": 1, "eb": 3, "ebk": 1, "fs": [99]}
        ],
        "ftbl": [
            "[root]",
            "0x5581: alloc (dhat-0.3.3/src/lib.rs:1176:9)",
            "0x5582: with_capacity_in<lakh::pool::Slot, alloc::alloc::Global> (src/raw_vec/mod.rs:1:2)",
            "0x5583: add_slot<lakh::conn::Connection> (src/pool/slab.rs:196:18)",
            "0x5584: acquire<lakh::conn::Connection> (src/pool/slab.rs:79:30)",
            "0x5585: <lakh::conn::Connections<S> as lakh::actor::Tenants>::arrive (src/conn/mod.rs:221:25)",
            "0x5586: __rust_alloc_zeroed (lakh/src/main.rs:26:19)",
            "0x5587: new<T> (tokio-1.54.0/src/lib.rs:7:7)"
        ]
    }"#;

    fn heap() -> Heap {
        serde_json::from_str::<Profile>(MADE).expect("a profile").by_site(100)
    }

    #[test]
    fn stacks_that_meet_in_one_function_of_ours_are_one_site() {
        let heap = heap();
        assert_eq!((heap.bytes, heap.peak_bytes), (9_233, 10_233));
        let pool = Site {
            frame: "add_slot src/pool/slab.rs:196".into(),
            caller: Some("<lakh::conn::Connections as lakh::actor::Tenants>::arrive src/conn/mod.rs:221".into()),
            bytes: 8_700,
            blocks: 87,
            peak_bytes: 9_700,
        };
        assert_eq!(heap.sites[0], pool);
    }

    #[test]
    fn where_nothing_is_ours_another_crate_is_named_and_at_last_the_innermost() {
        let frames: Vec<String> = heap().sites.into_iter().skip(1).map(|site| site.frame).collect();
        assert_eq!(frames, ["new tokio-1.54.0/src/lib.rs:7", "alloc dhat-0.3.3/src/lib.rs:1176", "(unknown)"]);
    }

    #[test]
    fn names_are_without_type_parameters() {
        for (long, short) in [
            ("add_slot<Option<lakh::A>, B>", "add_slot"),
            ("lakh::pool::Pool<T>::add_slot", "lakh::pool::Pool::add_slot"),
            ("<lakh::pool::Pool<A<B>>>::acquire::<C>", "<lakh::pool::Pool>::acquire"),
            ("<X as Y<Z>>::call::{{closure}}", "<X as Y>::call::{{closure}}"),
            ("call<fn(A<B>) -> C, D>::{closure#0}", "call::{closure#0}"),
            ("odd>", "odd>"),
        ] {
            assert_eq!(without_parameters(long), short);
        }
    }

    #[test]
    fn every_room_is_known() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let folders = fs::read_dir(root).expect("src").flatten().filter(|entry| entry.path().is_dir());
        let mut rooms: Vec<String> = folders.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        rooms.sort();
        assert_eq!(rooms, ROOMS);
    }

    #[test]
    fn bytes_are_told_per_client_and_what_is_not_shown_is_summed() {
        let mut heap = heap();
        let small = |number| Site { frame: format!("f{number}"), bytes: 10, blocks: 1, ..Site::default() };
        heap.sites.extend((0..20).map(small));
        let text = table(&heap);
        assert!(
            text.contains("while 100 clients were held") && text.contains("|     87.0 |         8,700 |"),
            "{text}"
        );
        assert!(text.contains("|      1.2 |           120 |") && text.contains("(12 other sites) |"), "{text}");
        assert_eq!(text.lines().count(), 2 + 2 + SHOWN + 1, "{text}");
    }

    #[test]
    fn another_file_is_an_error() {
        let file = std::env::temp_dir().join(format!("lakh-no-heap-{}.json", std::process::id()));
        assert!(read(&file, 1).is_err(), "none");
        fs::write(&file, "{\"pps\": 3}").expect("written");
        assert!(read(&file, 1).is_err(), "another kind");
        fs::remove_file(&file).expect("there");
    }
}
