//! Documents compared with the project: links, commands, policies, and the translation.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::harness::cloud::BINARY;

const GUIDE: &str = include_str!("../../../deploy/README.md");

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A heading and its content.
#[derive(Default)]
struct Section<'a> {
    heading: &'a str,
    /// Language and content of each fenced block, with its indentation.
    blocks: Vec<(&'a str, String)>,
    /// Text outside the blocks.
    text: String,
}

fn sections(document: &str) -> Vec<Section<'_>> {
    let mut sections = vec![Section::default()];
    let mut is_code = false;
    for line in document.lines() {
        let section = sections.last_mut().unwrap();
        if let Some(language) = line.trim_start().strip_prefix("```") {
            is_code = !is_code;
            if is_code {
                section.blocks.push((language, String::new()));
            }
        } else if is_code {
            let (_, content) = section.blocks.last_mut().unwrap();
            content.extend([line, "\n"]);
        } else if line.starts_with('#') {
            sections.push(Section {
                heading: line,
                ..Section::default()
            });
        } else {
            section.text.extend([line, "\n"]);
        }
    }
    sections
}

fn blocks(document: &str, language: &str) -> Vec<String> {
    sections(document)
        .into_iter()
        .flat_map(|section| section.blocks)
        .filter(|(it, _)| *it == language)
        .map(|(_, content)| content)
        .collect()
}

impl Section<'_> {
    fn level(&self) -> usize {
        self.heading.chars().take_while(|it| *it == '#').count()
    }

    /// Returns the anchor that GitHub makes of the heading.
    fn anchor(&self) -> String {
        self.heading
            .trim_start_matches('#')
            .trim()
            .to_lowercase()
            .replace(' ', "-")
            .replace(
                |it: char| !it.is_alphanumeric() && it != '-' && it != '_',
                "",
            )
    }

    /// Returns the inline code, sorted, because a translation has another order.
    fn spans(&self) -> Vec<&str> {
        let mut spans: Vec<_> = self.text.split('`').skip(1).step_by(2).collect();
        spans.sort_unstable();
        spans
    }

    fn links(&self) -> Vec<&str> {
        let without_code = self.text.split('`').step_by(2);
        let mut links: Vec<_> = without_code
            .flat_map(|text| text.split("](").skip(1))
            .filter_map(|rest| rest.split_once(')'))
            .map(|(link, _)| link)
            .collect();
        links.sort_unstable();
        links
    }

    fn numbers(&self) -> Vec<&str> {
        let mut numbers: Vec<_> = self
            .text
            .split(|it: char| !it.is_ascii_digit())
            .filter(|it| !it.is_empty())
            .collect();
        numbers.sort_unstable();
        numbers
    }

    /// Returns the cells of all table rows.
    fn rows(&self) -> Vec<Vec<&str>> {
        self.text
            .lines()
            .filter_map(|line| line.strip_prefix('|')?.strip_suffix('|'))
            .map(|line| line.split('|').map(str::trim).collect())
            .collect()
    }
}

/// Returns the project's Markdown files under `folder`.
fn documents(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() && !name.starts_with('.') && name != "target" {
            found.extend(documents(&path));
        } else if path.extension().is_some_and(|it| it == "md") {
            found.push(path);
        }
    }
    found
}

#[test]
fn every_link_in_a_document_leads_somewhere() {
    let mut count = 0;
    for document in documents(&root()) {
        let text = fs::read_to_string(&document).unwrap();
        for section in sections(&text) {
            for link in section.links() {
                if link.contains("://") {
                    continue;
                }
                count += 1;
                let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
                let target = match file {
                    "" => document.clone(),
                    _ => document.with_file_name("").join(file),
                };
                let place = format!("{}: {link}", document.display());
                assert!(target.exists(), "{place}");
                if !anchor.is_empty() {
                    let text = fs::read_to_string(&target).unwrap();
                    let has_anchor = sections(&text).iter().any(|it| it.anchor() == anchor);
                    assert!(has_anchor, "{place}");
                }
            }
        }
    }
    assert!(count > 50, "the links are read wrongly");
}

/// Heading of the deployment guide at which the Chinese page of its own begins.
const SECOND_PART: &str = "## Troubleshooting\n";

/// A Chinese page and the English text that it translates, both named by paths relative to the root.
struct Translation {
    english_page: PathBuf,
    english: String,
    chinese_page: PathBuf,
    chinese: String,
}

/// Returns every Chinese page with the English text that it translates.
fn translations() -> Vec<Translation> {
    let read = |page: &Path| fs::read_to_string(root().join(page)).unwrap();
    let mut pages = vec![PathBuf::from("README.zh-CN.md")];
    for page in documents(&root().join("docs/zh-CN")) {
        pages.push(Path::new("docs/zh-CN").join(page.file_name().unwrap()));
    }
    let (first, second) = GUIDE.split_at(GUIDE.find(SECOND_PART).unwrap());
    pages
        .into_iter()
        .map(|chinese_page| {
            let name = chinese_page.file_name().unwrap().to_str().unwrap();
            let (english_page, english) = match name {
                "README.zh-CN.md" => ("README.md".into(), None),
                "deployment.md" => ("deploy/README.md".into(), Some(first)),
                "troubleshooting.md" => ("deploy/README.md".into(), Some(second)),
                _ => (Path::new("docs").join(name), None),
            };
            Translation {
                english: english.map_or_else(|| read(&english_page), str::to_owned),
                english_page,
                chinese: read(&chinese_page),
                chinese_page,
            }
        })
        .collect()
}

#[test]
fn a_chinese_page_says_what_the_english_page_says() {
    let pairs = translations();
    assert!(pairs.len() > 12, "the pages are read wrongly");
    for pair in &pairs {
        let (english, chinese) = (sections(&pair.english), sections(&pair.chinese));
        let page = pair.chinese_page.display();
        assert_eq!(levels(&english), levels(&chinese), "{page}");
        for (english, chinese) in english.iter().zip(&chinese) {
            let place = format!("{page}: {}", english.heading);
            assert_eq!(english.blocks, chinese.blocks, "{place}");
            assert_eq!(english.spans(), chinese.spans(), "{place}");
            assert_eq!(english.numbers(), chinese.numbers(), "{place}");
            let in_english = link_targets(english, &pair.english_page);
            assert_eq!(
                in_english,
                link_targets(chinese, &pair.chinese_page),
                "{place}"
            );

            let (rows, translated) = (english.rows(), chinese.rows());
            let widths = |rows: &[Vec<&str>]| rows.iter().map(Vec::len).collect::<Vec<_>>();
            assert_eq!(widths(&rows), widths(&translated), "{place}");
            for (row, translated) in rows.iter().zip(&translated) {
                if is_setting(row[0]) {
                    assert_eq!(row[..2], translated[..2]);
                }
            }
        }
    }
}

/// Tells whether a cell is the name of a configuration key, such as `Cache.CacheSize`.
fn is_setting(cell: &str) -> bool {
    let name = cell.strip_prefix('`').and_then(|it| it.strip_suffix('`'));
    name.and_then(|it| it.split_once('.'))
        .is_some_and(|(table, key)| {
            let is_word = |it: &str| {
                it.starts_with(char::is_uppercase) && it.chars().all(char::is_alphanumeric)
            };
            is_word(table) && key.split('.').all(is_word)
        })
}

/// Returns the level of each heading, counted from the page's first heading.
fn levels(sections: &[Section<'_>]) -> Vec<usize> {
    let headings = &sections[1..];
    let first = headings[0].level();
    headings.iter().map(|it| it.level() - first).collect()
}

/// Returns the files that a section of `page` links to, relative to the root, each with the ordinal of the linked heading.
/// A translated page counts as the English one.
fn link_targets(section: &Section<'_>, page: &Path) -> Vec<(String, Option<usize>)> {
    let mut targets: Vec<_> = section
        .links()
        .into_iter()
        .filter(|link| !link.contains("://"))
        .map(|link| {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let mut target = PathBuf::new();
            for part in page.with_file_name("").join(file).components() {
                if part.as_os_str() == ".." {
                    target.pop();
                } else {
                    target.push(part);
                }
            }
            if file.is_empty() {
                page.clone_into(&mut target);
            }
            let ordinal = ordinal(&target, anchor);
            let target = target.to_str().unwrap();
            match target {
                "README.zh-CN.md" => ("README.md".to_owned(), ordinal),
                "docs/zh-CN/deployment.md" => ("deploy/README.md".to_owned(), ordinal),
                "docs/zh-CN/troubleshooting.md" => {
                    let before = sections(GUIDE.split(SECOND_PART).next().unwrap()).len();
                    let ordinal = ordinal.unwrap_or(1) + before - 1;
                    ("deploy/README.md".to_owned(), Some(ordinal))
                }
                _ => (target.replace("docs/zh-CN/", "docs/"), ordinal),
            }
        })
        .collect();
    targets.sort_unstable();
    targets
}

/// Returns the ordinal of the heading of `page` with this anchor.
fn ordinal(page: &Path, anchor: &str) -> Option<usize> {
    if anchor.is_empty() {
        return None;
    }
    let text = fs::read_to_string(root().join(page)).unwrap();
    let found = sections(&text).iter().position(|it| it.anchor() == anchor);
    assert!(found.is_some(), "{}: {anchor}", page.display());
    found
}

#[test]
fn the_book_lists_every_page() {
    let summary = fs::read_to_string(root().join("docs/SUMMARY.md")).unwrap();
    let pages = documents(&root().join("docs"));
    assert!(pages.len() > 20, "the pages are read wrongly");
    for page in pages {
        let page = page.strip_prefix(root().join("docs")).unwrap();
        let link = format!("({})", page.display());
        assert!(
            page == Path::new("SUMMARY.md") || summary.contains(&link),
            "{link}"
        );
    }
}

#[test]
fn every_page_is_linked_from_the_readme_and_says_who_it_is_for() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    assert!(readme.lines().count() <= 150, "README.md is one screen");
    for page in fs::read_dir(root().join("docs")).unwrap() {
        let path = page.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.extension().is_none_or(|it| it != "md") || name == "SUMMARY.md" {
            continue;
        }
        assert!(readme.contains(&format!("(docs/{name})")), "{name}");
        let text = fs::read_to_string(&path).unwrap();
        let opening = text.lines().nth(2).unwrap();
        assert!(opening.starts_with("For "), "{name}: {opening}");
    }
}

#[test]
fn every_command_of_the_deployment_guide_is_run_by_a_test() {
    let tests: String = ["local", "linux", "deb", "docker-compose", "ack"]
        .map(|test| fs::read_to_string(root().join("tests/deploy").join(test)).unwrap())
        .concat();
    let mut count = 0;
    for block in blocks(GUIDE, "sh") {
        let mut command = String::new();
        for line in block.lines() {
            command += line;
            if line.ends_with('\\') {
                command.push('\n');
                continue;
            }
            // The tests pass the quoted command to `told`, a function in tests/deploy/check.sh.
            let quoted = command.replace('\'', r"'\''");
            assert!(tests.contains(&format!("'{quoted}'")), "{command}");
            command.clear();
            count += 1;
        }
    }
    assert!(count > 30, "the blocks are read wrongly");
}

#[test]
fn every_config_in_a_document_is_valid() {
    let readme = root().join("README.md");
    let pages = [
        documents(&root().join("docs")),
        documents(&root().join("deploy")),
    ]
    .concat();
    let configs: Vec<_> = pages
        .into_iter()
        .chain([readme])
        .flat_map(|page| blocks(&fs::read_to_string(page).unwrap(), "toml"))
        .collect();
    assert!(configs.len() > 1, "the blocks are read wrongly");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.toml");
    for config in configs {
        fs::write(&file, &config).unwrap();
        let output = Command::new(BINARY)
            .args(["check", "--offline"])
            .arg(&file)
            .env_clear()
            .output()
            .unwrap();
        assert!(output.status.success(), "{config}");
    }
}

#[test]
fn the_policies_are_valid_and_fit_the_manifests() {
    let policies: Vec<Value> = blocks(GUIDE, "json")
        .iter()
        .map(|block| serde_json::from_str(block).unwrap())
        .collect();
    for policy in &policies {
        assert_eq!(policy["Version"], "1");
        for statement in policy["Statement"].as_array().unwrap() {
            assert_eq!(statement["Effect"], "Allow");
        }
    }
    let [permissions, ecs, rrsa] = &policies[..] else {
        panic!("another number of policies");
    };
    let statements = permissions["Statement"].as_array().unwrap();
    let actions: Vec<_> = statements.iter().map(|it| &it["Action"]).collect();
    assert_eq!(actions, ["kms:GetSecretValue", "kms:Decrypt"]);

    let ecs = &ecs["Statement"][0];
    assert_eq!(ecs["Action"], "sts:AssumeRole");
    assert_eq!(ecs["Principal"]["Service"][0], "ecs.aliyuncs.com");

    let ack = |file: &str| fs::read_to_string(root().join("deploy/ack/base").join(file)).unwrap();
    let rrsa = &rrsa["Statement"][0];
    assert_eq!(rrsa["Action"], "sts:AssumeRole");
    let condition = |key: &str| {
        let values = &rrsa["Condition"]["StringEquals"][key];
        values[0].as_str().unwrap().to_owned()
    };
    let audience = format!("audience: {}\n", condition("oidc:aud"));
    assert!(ack("deployment.yaml").contains(&audience), "{audience}");
    let subject = condition("oidc:sub");
    let account = subject
        .strip_prefix("system:serviceaccount:default:")
        .unwrap();
    let account = format!("  name: {account}\n");
    assert!(ack("service-account.yaml").contains(&account), "{subject}");
}
