use super::*;

const STRANGER: u32 = 54_321;

fn facts(user: u32, group: u32, mode: u32) -> Facts {
    Facts {
        user,
        group,
        mode,
        is_link: false,
        is_read_only: false,
        is_mount_point: false,
        acl: None,
    }
}

fn taken(facts: &Facts) -> Taken<'_> {
    Taken {
        path: Path::new("/d/f"),
        facts,
        is_token: false,
    }
}

fn word(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Trusted => "trusted",
        Verdict::Warned(_) => "warned",
        Verdict::Refused(_) => "refused",
    }
}

#[test]
fn a_file_is_judged_by_owner_mode_and_kind() {
    let (secret, token, setting) = (Kind::Secret, Kind::Token, Kind::Setting);
    for (user, group, mode, expected) in [
        (
            0,
            0,
            0o600,
            [
                (secret, "trusted"),
                (token, "trusted"),
                (setting, "trusted"),
            ],
        ),
        (
            0,
            0,
            0o640,
            [
                (secret, "trusted"),
                (token, "trusted"),
                (setting, "trusted"),
            ],
        ),
        (
            0,
            0,
            0o664,
            [(secret, "refused"), (token, "warned"), (setting, "trusted")],
        ),
        (
            0,
            STRANGER,
            0o640,
            [
                (secret, "refused"),
                (token, "trusted"),
                (setting, "trusted"),
            ],
        ),
        (
            0,
            STRANGER,
            0o660,
            [
                (secret, "refused"),
                (token, "refused"),
                (setting, "refused"),
            ],
        ),
        (
            0,
            0,
            0o644,
            [(secret, "refused"), (token, "warned"), (setting, "trusted")],
        ),
        (
            0,
            0,
            0o602,
            [
                (secret, "refused"),
                (token, "refused"),
                (setting, "refused"),
            ],
        ),
        (
            0,
            0,
            0o666,
            [
                (secret, "refused"),
                (token, "refused"),
                (setting, "refused"),
            ],
        ),
        (
            STRANGER,
            0,
            0o600,
            [
                (secret, "refused"),
                (token, "trusted"),
                (setting, "refused"),
            ],
        ),
        (
            STRANGER,
            0,
            0o644,
            [(secret, "refused"), (token, "warned"), (setting, "refused")],
        ),
    ] {
        for (kind, expected) in expected {
            let verdict = file(Path::new("/f"), &facts(user, group, mode), kind);
            assert_eq!(
                word(&verdict),
                expected,
                "{user} {group} {mode:o} {kind:?}: {verdict:?}"
            );
        }
    }
}

#[test]
fn a_read_only_mount_makes_owner_and_writability_irrelevant_and_readability_not() {
    let on_it = Facts {
        is_read_only: true,
        ..facts(STRANGER, STRANGER, 0o666)
    };
    for (kind, expected) in [
        (Kind::Secret, "refused"),
        (Kind::Token, "warned"),
        (Kind::Setting, "trusted"),
    ] {
        assert_eq!(word(&file(Path::new("/f"), &on_it, kind)), expected);
    }
    let verdict = folder(
        Path::new("/d"),
        &on_it,
        Some(taken(&facts(STRANGER, 0, 0o600))),
    );
    assert_eq!(word(&verdict.verdict), "trusted");
}

#[test]
fn a_folder_is_judged_by_owner_mode_and_what_is_taken_from_it() {
    let own = facts(0, 0, 0o600);
    let other = facts(STRANGER, 0, 0o600);
    for (user, group, mode, entry, expected) in [
        (0, 0, 0o755, own, "trusted"),
        (0, 0, 0o755, other, "trusted"),
        (0, 0, 0o775, own, "trusted"),
        (0, STRANGER, 0o775, own, "refused"),
        (0, STRANGER, 0o1775, own, "trusted"),
        (0, 0, 0o777, own, "refused"),
        (0, 0, 0o1777, own, "trusted"),
        (0, 0, 0o1777, other, "refused"),
        (STRANGER, 0, 0o755, own, "refused"),
        (STRANGER, 0, 0o1777, own, "refused"),
    ] {
        let on = folder(
            Path::new("/d"),
            &facts(user, group, mode),
            Some(taken(&entry)),
        );
        assert_eq!(word(&on.verdict), expected, "{user} {group} {mode:o}");
        assert!(!on.ends_walk);
    }
}

#[test]
fn a_mount_point_of_roots_that_is_open_to_all_is_warned_of_and_ends_the_walk() {
    let volume = |user, mode| Facts {
        is_mount_point: true,
        ..facts(user, 0, mode)
    };
    let own = facts(0, 0, 0o600);
    let on = folder(Path::new("/d"), &volume(0, 0o2777), Some(taken(&own)));
    assert_eq!((word(&on.verdict), on.ends_walk), ("warned", true));
    let on = folder(Path::new("/d"), &volume(STRANGER, 0o777), Some(taken(&own)));
    assert_eq!(word(&on.verdict), "refused");
    let link = Facts {
        is_link: true,
        ..facts(STRANGER, 0, 0o777)
    };
    let on = folder(Path::new("/d"), &volume(0, 0o777), Some(taken(&link)));
    assert_eq!(
        word(&on.verdict),
        "refused",
        "a link that a stranger planted"
    );
}

#[test]
fn an_acl_entry_of_a_stranger_counts_as_its_mask() {
    let with = |strangers, group| Facts {
        acl: Some(Acl { strangers, group }),
        ..facts(0, STRANGER, 0o660)
    };
    let judged = |facts: &Facts, kind| word(&file(Path::new("/f"), facts, kind));
    assert_eq!(judged(&with(4, 0), Kind::Secret), "refused");
    assert_eq!(judged(&with(4, 0), Kind::Setting), "trusted");
    assert_eq!(judged(&with(6, 0), Kind::Setting), "refused");
    assert_eq!(judged(&with(0, 6), Kind::Setting), "refused");
    assert_eq!(
        judged(&with(0, 0), Kind::Secret),
        "trusted",
        "the mode's group bits are the mask"
    );
    let open = Facts {
        acl: Some(Acl {
            strangers: 7,
            group: 5,
        }),
        ..facts(0, 0, 0o775)
    };
    assert_eq!(
        word(&folder(Path::new("/d"), &open, None).verdict),
        "refused"
    );
}

#[test]
fn a_refusal_names_the_command_that_fixes_it() {
    for (kind, mode, command) in [
        (Kind::Secret, 0o604, "chmod 600 '/a b'"),
        (Kind::Setting, 0o602, "chmod o-w '/a b'"),
        (Kind::Token, 0o602, "chmod o-w '/a b'"),
    ] {
        let verdict = file(Path::new("/a b"), &facts(0, 0, mode), kind);
        let shown = verdict.refusal().map(ToString::to_string);
        assert!(
            shown
                .as_ref()
                .is_some_and(|shown| shown.ends_with(&format!("; run `{command}`"))),
            "{shown:?}"
        );
    }
}

#[test]
fn a_strangers_entry_of_a_sticky_folder_is_taken_from_the_stranger() {
    let sticky = facts(0, 0, 0o1777);
    let link = Facts {
        is_link: true,
        ..facts(STRANGER, 0, 0o777)
    };
    for (facts, is_token, command) in [
        (facts(STRANGER, 0, 0o600), true, "rm /d/f"),
        (link, false, "rm /d/f"),
        (facts(STRANGER, 0, 0o600), false, "chown "),
    ] {
        let entry = Taken {
            is_token,
            ..taken(&facts)
        };
        let on = folder(Path::new("/d"), &sticky, Some(entry));
        let refusal = on.verdict.refusal().unwrap();
        assert!(refusal.command.starts_with(command), "{refusal}");
    }
}

#[test]
fn a_path_is_one_word_to_a_shell() {
    for (path, word) in [
        ("/a/b.key", "/a/b.key"),
        ("/a b/$c", "'/a b/$c'"),
        ("it's", r"'it'\''s'"),
        ("-n", "'-n'"),
    ] {
        assert_eq!(quoted(Path::new(path)), word);
    }
}
