//! The troubleshooting tables of deploy/README.md: each row is provoked, and its log line, readiness, metrics and
//! exit code are compared.

mod application;
mod cache;
mod kms;
#[cfg(target_os = "linux")]
mod process;
mod start;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use kms_agent_test_support::{Setup, TestAgent, http};

const README: &str = include_str!("../../../deploy/README.md");

/// A row of the table.
struct Row {
    /// Parts of one log line, in their order.
    line: Vec<&'static str>,
    /// Other signs: readiness, metrics, exit code.
    signs: Vec<&'static str>,
}

/// Returns the cells of all table rows of the chapter.
fn cells() -> impl Iterator<Item = Vec<&'static str>> {
    let (_, chapter) = README.split_once("## Troubleshooting\n").unwrap();
    let chapter = chapter.split("\n## ").next().unwrap();
    chapter
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"))
        .map(|line| line.split(" | ").collect())
        .filter(|cells: &Vec<_>| cells[0] != "symptom")
}

fn codes(cell: &'static str) -> Vec<&'static str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// Returns the row about `symptom`.
fn row(symptom: &str) -> Row {
    let cells = cells().find(|cells| cells[0] == symptom).expect(symptom);
    let [line] = codes(cells[1]).try_into().expect("one line is quoted");
    Row {
        line: str::split(line, '…').map(str::trim).collect(),
        signs: codes(cells[2]),
    }
}

impl Row {
    /// Waits until `agent` logs the line and shows all signs.
    fn is_seen_on(&self, agent: &TestAgent) {
        let began = Instant::now();
        loop {
            let missing = self.missing(agent);
            if missing.is_empty() {
                return;
            }
            assert!(
                began.elapsed() < Duration::from_secs(30),
                "not seen: {missing:?}\n{}\n{}",
                http::get(agent.port(), "/readyz", &[]).text(),
                agent.stderr()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Starts an agent, which must exit as the row says.
    fn is_the_end_of(&self, setup: Setup) {
        let (status, said) = setup.run();
        let exit = format!("exit {}", status.code().unwrap());
        assert_eq!(self.signs, [exit], "{said}");
        assert!(self.is_told_in(&said), "{:?}:\n{said}", self.line);
    }

    fn is_told_in(&self, said: &str) -> bool {
        said.lines().any(|line| {
            let mut rest = line;
            self.line.iter().all(|part| match rest.split_once(part) {
                Some((_, after)) => {
                    rest = after;
                    true
                }
                None => false,
            })
        })
    }

    fn missing(&self, agent: &TestAgent) -> Vec<String> {
        let ready = http::get(agent.port(), "/readyz", &[]).json();
        let metrics = http::get(agent.port(), "/metrics", &[]).text().to_owned();
        let counts = |series: &str| {
            metrics.lines().any(|line| {
                line.strip_prefix(series)
                    .and_then(|value| value.trim().parse::<f64>().ok())
                    .is_some_and(|value| value > 0.0)
            })
        };
        let holds = |sign: &str| {
            let words: Vec<&str> = sign.split(' ').collect();
            match words[..] {
                [series] => counts(series),
                ["ready", "false"] => ready["ready"] == false,
                [check, state] => ready["checks"][check]["state"] == state,
                [check, state, code] => {
                    let check = &ready["checks"][check];
                    check["state"] == state && check["code"] == code
                }
                _ => unreachable!("unknown sign {sign}"),
            }
        };
        let told = self.is_told_in(&agent.stderr());
        let signs = self.signs.iter().copied().filter(|sign| !holds(sign));
        (!told)
            .then(|| self.line.join("…"))
            .into_iter()
            .chain(signs.map(str::to_owned))
            .collect()
    }
}

#[test]
fn every_row_of_the_table_is_brought_about() {
    let sources = [
        include_str!("trouble/application.rs"),
        include_str!("trouble/cache.rs"),
        include_str!("trouble/kms.rs"),
        include_str!("trouble/process.rs"),
        include_str!("trouble/start.rs"),
    ]
    .concat();
    let mut seen = BTreeSet::new();
    for cells in cells() {
        let symptom = cells[0];
        assert_eq!(cells.len(), 4, "{symptom}");
        assert!(seen.insert(symptom), "{symptom} is there twice");
        assert!(
            sources.contains(&format!("\"{symptom}\"")),
            "no test: {symptom}"
        );
    }
    assert!(seen.len() > 40, "the tables are read wrongly");
}
