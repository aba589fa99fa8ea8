//! `lakh plan` against real processes: what a calibration measures, what a plan reads of it, and whether the plan holds.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use lakh::cli::plan::calibrate::{Sizes, calibrate};
use lakh::cli::plan::calibration::Calibration;
use lakh::meter::Host;

/// A folder of results of its own, empty.
fn results(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("plan-{name}"));
    let _ = std::fs::remove_dir_all(&folder);
    folder
}

fn lakh(words: &[&str], results: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lakh"));
    command.arg("plan").args(words).arg("--results").arg(results).output().expect("lakh runs")
}

#[test]
fn what_is_calibrated_is_planned_with() {
    let results = results("calibrated");
    let sizes = Sizes {
        few: 200,
        many: 2_000,
        fewer: 1_000,
        rounds: 2,
        asking: Duration::from_millis(200),
        rest: Duration::from_millis(100),
    };
    let exe = Path::new(env!("CARGO_BIN_EXE_lakh"));
    let (measured, file) = calibrate(exe, &Host::read(), &results, sizes).expect("calibrated");
    for (dialect, one) in &measured.dialects {
        assert_eq!((one.few.clients, one.many.clients), (200, 2_000));
        assert!(one.many.rss_bytes >= one.few.rss_bytes && one.few.rss_bytes > 1 << 20, "{dialect}: {one:?}");
        for (name, cost) in one.costs.each() {
            assert!(cost.bursts >= 2, "{dialect} {name}: {cost:?}");
            for spread in [cost.gateway_us, cost.clients_us, cost.per_second] {
                assert!(0.0 < spread.median && spread.least <= spread.median, "{dialect} {name}: {cost:?}");
                assert!(spread.median <= spread.most, "{dialect} {name}: {cost:?}");
            }
        }
    }
    let (read, from) = Calibration::newest(&results).expect("it is the newest");
    assert_eq!((&read, &from), (&measured, &file));
    let planned = lakh(&["--clients", "5000", "--dialects", "ws=1"], &results);
    let text = String::from_utf8_lossy(&planned.stdout);
    assert!(planned.status.success(), "{}", String::from_utf8_lossy(&planned.stderr));
    for words in ["# 5,000 clients (100 % ws)", "calibration, 200 and 2000 clients", "100,000 |"] {
        assert!(text.contains(words), "{words} in\n{text}");
    }
}

#[test]
fn without_a_calibration_nothing_is_planned() {
    let output = lakh(&["--clients", "5000"], &results("none"));
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(64), "{told}");
    assert!(told.contains("lakh plan --calibrate") && told.contains("nothing is guessed"), "{told}");
}

/// The plan against reality: a calibration, then `lakh simulate`, on a machine that does nothing else.
#[test]
#[ignore = "minutes; needs a release build and a quiet machine"]
fn the_plan_holds() {
    let results = results("held");
    assert!(lakh(&["--calibrate"], &results).status.success());
    for dialect in ["tcp=1", "http=1"] {
        let output = lakh(&["--check", "--dialects", dialect], &results);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
}
