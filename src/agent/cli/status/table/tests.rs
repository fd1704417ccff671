use serde_json::json;

use super::*;

#[test]
fn ages_are_told_in_two_units() {
    for (seconds, text) in [
        (0, "0s"),
        (59, "59s"),
        (192, "3m12s"),
        (18_420, "5h07m"),
        (176_400, "2d01h"),
    ] {
        assert_eq!(duration(seconds), text);
    }
}

fn entry(name: &str, state: &str) -> Value {
    json!({"name": name, "selector": "ACSCurrent", "version_id": "0123456789abcdef0123456789abcdef", "state": state,
        "age_seconds": 9_000_000, "ttl_seconds": 200, "usable_seconds": 90_000, "hits": 1_234_567})
}

#[test]
fn no_line_of_the_table_is_wider_than_the_terminal_and_without_one_nothing_is_cut() {
    let long = "n".repeat(200);
    let status = json!({"entries": [entry(&long, "expired"), entry("数据库密码", "fresh")], "truncated": true});
    for columns in [60, 80, 132] {
        let text = render(&status, Some(columns));
        assert!(text.contains('…'));
        let table = text.lines().skip_while(|line| !line.starts_with("NAME"));
        assert!(table.clone().all(|line| line.width() <= columns), "{text}");
    }
    let text = render(&status, None);
    assert!(
        text.contains(&long) && text.contains("0123456789abcdef0123456789abcdef"),
        "{text}"
    );
    let short = render(&json!({"entries": [entry("a", "fresh")]}), Some(100));
    assert!(
        short.contains("0123456789abcdef0123456789abcdef"),
        "{short}"
    );
}

#[test]
fn columns_stand_below_each_other_whatever_the_script() {
    let status = json!({"entries": [entry("数据库/密码", "fresh"), entry("plain", "fresh"), entry("Ünï", "fresh")]});
    let text = render(&status, None);
    let columns: Vec<usize> = text
        .lines()
        .filter_map(|line| line.split_once("fresh"))
        .map(|(before, _)| before.width())
        .collect();
    assert_eq!(columns.len(), 3);
    assert!(columns.windows(2).all(|pair| pair[0] == pair[1]), "{text}");
}

#[test]
fn left_is_the_time_in_the_state() {
    let status =
        json!({"entries": [entry("a", "fresh"), entry("b", "expired"), entry("c", "dead")]});
    let text = render(&status, None);
    let cells = |name: &str| -> Vec<String> {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().map(str::to_owned).collect()
    };
    assert_eq!(cells("a ")[4], "3m20s");
    assert_eq!(cells("b ")[4], "1d01h");
    assert_eq!(
        cells("c ").len(),
        5,
        "a dead entry has no time left: {text}"
    );
}

#[test]
fn foreign_text_stays_in_its_cell() {
    let mut entry = entry("a\u{202e}b\nerror: c", "fresh");
    entry["version_id"] = json!("v\u{1b}[2J\r\n");
    entry["selector"] = json!("ACSPrevious");
    let status = json!({"entries": [entry], "upstream": {"state": "degraded", "last_error": "X\u{1b}]0;t\u{7}\nerror: y"},
        "prefetch": [{"name": "p\n", "state": "failed", "error": "\u{9b}"}]});
    let text = render(&status, Some(80));
    assert!(
        text.contains(r"a\u{202e}b\nerror: c (ACSPrevious)") || text.contains(r"a\u{202e}"),
        "{text}"
    );
    assert!(
        !text
            .chars()
            .any(|c| c != '\n' && (c.is_control() || c == '\u{202e}')),
        "{text}"
    );
    assert!(
        !text.lines().any(|line| line.starts_with("error")),
        "{text}"
    );
}

#[test]
fn what_is_not_known_is_said_in_words() {
    let text = render(
        &json!({"cache": {"store": {"path": "/s", "committed_at": null}}, "credentials": {"provider": "environment"}}),
        None,
    );
    for words in [
        "not written yet",
        "KMS has not answered yet",
        "environment, without an end",
    ] {
        assert!(text.contains(words), "{text}");
    }
    assert!(!text.contains(" -"), "{text}");
    assert!(render(&json!({}), None).contains("credentials  none yet"));
}
