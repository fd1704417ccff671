//! Code blocks of `backends/README.md`, each of which is in this crate word for word.
#![expect(clippy::expect_used, reason = "a test that cannot go on panics")]

use std::path::Path;

const GUIDE: &str = include_str!("../../README.md");

/// Returns the code blocks of this language.
fn blocks(language: &str) -> Vec<&'static str> {
    let blocks: Vec<&str> = GUIDE
        .split("\n```")
        .skip(1)
        .step_by(2)
        .filter_map(|block| block.strip_prefix(language)?.strip_prefix('\n'))
        .collect();
    assert!(!blocks.is_empty(), "the guide is read wrongly");
    blocks
}

/// Returns the text of all files of this crate with this extension, except this one.
fn sources(end: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut text = String::new();
    for folder in [folder.to_owned(), folder.join("tests")] {
        for file in std::fs::read_dir(folder).expect("it is listed") {
            let path = file.expect("a file").path();
            let is_wanted = path.extension().is_some_and(|found| found == end);
            if is_wanted && !path.ends_with("guide.rs") {
                text += &std::fs::read_to_string(path).expect("it is text");
            }
        }
    }
    text
}

#[test]
fn every_block_of_the_guide_stands_in_the_example() {
    for (language, end) in [("rust", "rs"), ("toml", "toml")] {
        let sources = sources(end);
        for block in blocks(language) {
            assert!(sources.contains(block), "the example has no\n{block}");
        }
    }
}

#[test]
fn every_link_of_the_guide_leads_somewhere() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let links: Vec<&str> = GUIDE
        .split("](")
        .skip(1)
        .filter_map(|rest| Some(rest.split_once(')')?.0))
        .collect();
    assert!(links.len() > 5, "the guide is read wrongly");
    for link in links {
        assert!(folder.join(link).exists(), "{link} leads nowhere");
    }
}

#[test]
fn the_line_of_the_guide_looks_like_those_of_the_agent() {
    let list = include_str!("../../../src/agent/backends.rs");
    let line = blocks("rust").pop().expect("it is the last one");
    for known in ["memory", "redb"] {
        assert!(list.contains(&line.replace("files", known)), "{line}");
    }
}
