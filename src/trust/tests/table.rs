//! The rule against the layouts that people run the agent in, made in mount and user namespaces.
#![cfg(target_os = "linux")]
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "the table reads what its process prints, and a test that cannot go on panics"
)]

use std::path::Path;
use std::process::{Command, Output};

use kms_agent_trust::{FilePlace, Kind, Verdict, judge, open};

const SECRET: &str = "secret";
const TOKEN: &str = "token";
const SETTING: &str = "setting";

const TRUSTED: &str = "trusted";
const WARNED: &str = "warned";
const REFUSED: &str = "refused";

/// A layout below `$T`, a folder of root's, and the verdicts on `$T/f` of a user.
struct Layout {
    name: &'static str,
    /// Shell commands of root in a mount namespace of their own. The user is 1234, a stranger 999.
    setup: &'static str,
    path: &'static str,
    /// How the process becomes the user.
    user: &'static str,
    verdicts: &'static [(&'static str, &'static str)],
}

const ROOT: &str = "";
const USER: &str = "setpriv --reuid 1234 --regid 1234 --clear-groups";

const LAYOUTS: &[Layout] = &[
    Layout {
        name: "emptyDir below a folder that is open to all",
        setup: "mkdir -m 777 $T/open $T/open/v; chmod 777 $T/open; mount -t tmpfs -o mode=777 none $T/open/v
                echo x > $T/open/v/f; chmod 600 $T/open/v/f; chown 1234:1234 $T/open/v/f",
        path: "open/v/f",
        user: USER,
        verdicts: &[(SECRET, WARNED), (TOKEN, WARNED), (SETTING, WARNED)],
    },
    Layout {
        name: "emptyDir on the disk of the folder above, with fsGroup",
        setup: "mkdir $T/a $T/v; chmod 2777 $T/a; chgrp 2025 $T/a; mount --bind $T/a $T/v
                echo x > $T/v/f; chmod 640 $T/v/f; chown 999:2025 $T/v/f",
        path: "v/f",
        user: "setpriv --reuid 1234 --regid 1234 --groups 2025",
        verdicts: &[(TOKEN, WARNED), (SETTING, REFUSED)],
    },
    Layout {
        name: "a link that another container planted in an emptyDir",
        setup: "mkdir $T/v; mount -t tmpfs -o mode=777 none $T/v; echo x > $T/g
                ln -s $T/g $T/v/f; chown -h 999 $T/v/f",
        path: "v/f",
        user: USER,
        verdicts: &[(TOKEN, REFUSED), (SETTING, REFUSED), ("place", "error")],
    },
    Layout {
        name: "ConfigMap, mounted read-only",
        setup: "mkdir -m 777 $T/a $T/v; chmod 777 $T/a; mkdir $T/a/..1; echo x > $T/a/..1/f; chmod 644 $T/a/..1/f
                ln -s ..1 $T/a/..data; ln -s ..data/f $T/a/f; mount --bind -o ro $T/a $T/v",
        path: "v/f",
        user: USER,
        verdicts: &[(SETTING, TRUSTED), (TOKEN, WARNED), (SECRET, REFUSED)],
    },
    Layout {
        name: "projected files, root's and readable for fsGroup",
        setup: "mkdir $T/v; mount -t tmpfs -o mode=1777 none $T/v; chgrp 2025 $T/v; mkdir $T/v/..1
                echo x > $T/v/..1/f; chmod 440 $T/v/..1/f; chgrp 2025 $T/v/..1/f
                ln -s ..1 $T/v/..data; ln -s ..data/f $T/v/f",
        path: "v/f",
        user: "setpriv --reuid 1234 --regid 1234 --groups 2025",
        verdicts: &[(SETTING, TRUSTED), (TOKEN, TRUSTED), (SECRET, TRUSTED)],
    },
    Layout {
        name: "a stranger's file, mounted by itself and read-only",
        setup: "echo x > $T/g; chmod 666 $T/g; chown 999 $T/g; touch $T/f; mount --bind -o ro $T/g $T/f",
        path: "f",
        user: USER,
        verdicts: &[(SETTING, TRUSTED), (TOKEN, WARNED), (SECRET, REFUSED)],
    },
    Layout {
        name: "the same, mounted writable",
        setup: "echo x > $T/g; chmod 664 $T/g; chown 999 $T/g; touch $T/f; mount --bind $T/g $T/f",
        path: "f",
        user: USER,
        verdicts: &[(SETTING, REFUSED)],
    },
    Layout {
        name: "OpenShift: any user, group 0",
        setup: "mkdir $T/d; chmod 775 $T/d; echo x > $T/d/f; chmod 660 $T/d/f",
        path: "d/f",
        user: "setpriv --reuid 1000680000 --regid 0 --clear-groups",
        verdicts: &[(SETTING, TRUSTED), (TOKEN, TRUSTED), (SECRET, TRUSTED)],
    },
    Layout {
        name: "umask 002",
        setup: "mkdir $T/d; chmod 775 $T/d; echo x > $T/d/f; chmod 664 $T/d/f; chown -R 1234:1234 $T/d",
        path: "d/f",
        user: USER,
        verdicts: &[(SETTING, TRUSTED), (TOKEN, WARNED)],
    },
    Layout {
        name: "a folder for a group of strangers",
        setup: "mkdir $T/d; chmod 775 $T/d; chgrp 2025 $T/d; echo x > $T/d/f; chown 1234 $T/d/f",
        path: "d/f",
        user: USER,
        verdicts: &[(SETTING, REFUSED), (TOKEN, REFUSED)],
    },
    Layout {
        name: "/var/run -> /run",
        setup: "mkdir -p $T/var $T/run; ln -s ../run $T/var/run; echo x > $T/run/f; chmod 640 $T/run/f
                chown 1234:2025 $T/run/f",
        path: "var/run/f",
        user: USER,
        verdicts: &[(TOKEN, TRUSTED), (SETTING, TRUSTED), ("place", "ok")],
    },
    Layout {
        name: "an own file in a sticky folder",
        setup: "mkdir $T/s; chmod 1777 $T/s; echo x > $T/s/f; chmod 600 $T/s/f; chown 1234:1234 $T/s/f",
        path: "s/f",
        user: USER,
        verdicts: &[(SECRET, TRUSTED), (TOKEN, TRUSTED), (SETTING, TRUSTED)],
    },
    Layout {
        name: "a stranger's file in a sticky folder",
        setup: "mkdir $T/s; chmod 1777 $T/s; echo x > $T/s/f; chown 999 $T/s/f",
        path: "s/f",
        user: USER,
        verdicts: &[(TOKEN, REFUSED), (SETTING, REFUSED)],
    },
    Layout {
        name: "a stranger's token in a folder of root's (--owner)",
        setup: "mkdir $T/d; echo x > $T/d/f; chmod 640 $T/d/f; chown 999:1234 $T/d/f",
        path: "d/f",
        user: USER,
        verdicts: &[(TOKEN, TRUSTED), (SETTING, REFUSED)],
    },
    Layout {
        name: "a planted link in a sticky folder",
        setup: "mkdir $T/s; chmod 1777 $T/s; echo x > $T/g; ln -s $T/g $T/s/f; chown -h 999 $T/s/f",
        path: "s/f",
        user: ROOT,
        verdicts: &[(TOKEN, REFUSED), (SETTING, REFUSED), ("place", "error")],
    },
    Layout {
        name: "a planted link in the way",
        setup: "mkdir $T/s $T/d; chmod 1777 $T/s; echo x > $T/d/f; ln -s $T/d $T/s/l; chown -h 999 $T/s/l",
        path: "s/l/f",
        user: ROOT,
        verdicts: &[(TOKEN, REFUSED), (SETTING, REFUSED), ("place", "error")],
    },
    Layout {
        name: "a link of root's in a folder that is open to all",
        setup: "mkdir $T/o; chmod 777 $T/o; echo x > $T/g; ln -s $T/g $T/o/f",
        path: "o/f",
        user: ROOT,
        verdicts: &[(TOKEN, REFUSED), (SETTING, REFUSED), ("place", "error")],
    },
    Layout {
        name: "a link out of a bad folder into an emptyDir",
        setup: "mkdir $T/o $T/v; chmod 777 $T/o; mount -t tmpfs -o mode=777 none $T/v; echo x > $T/v/f
                ln -s $T/v/f $T/o/f",
        path: "o/f",
        user: ROOT,
        verdicts: &[(SETTING, REFUSED)],
    },
    Layout {
        name: "a folder that is open to all",
        setup: "mkdir $T/o; chmod 777 $T/o; echo x > $T/o/f",
        path: "o/f",
        user: ROOT,
        verdicts: &[(SETTING, REFUSED), ("place", "ok")],
    },
    Layout {
        name: "two folders below one that is open to all",
        setup: "mkdir $T/o; chmod 777 $T/o; mkdir -p $T/o/a/b; echo x > $T/o/a/b/f",
        path: "o/a/b/f",
        user: ROOT,
        verdicts: &[(SETTING, REFUSED)],
    },
    Layout {
        name: "out of a folder that is open to all, and in again elsewhere",
        setup: "mkdir $T/o; chmod 777 $T/o; echo x > $T/f",
        path: "o/../f",
        user: ROOT,
        verdicts: &[(SETTING, TRUSTED)],
    },
    Layout {
        name: "a stranger's folder",
        setup: "mkdir $T/d; echo x > $T/d/f; chown 999 $T/d",
        path: "d/f",
        user: ROOT,
        verdicts: &[(TOKEN, REFUSED), (SETTING, REFUSED)],
    },
    Layout {
        name: "owners that a user namespace has no number for",
        setup: "mount -t tmpfs -o mode=755 none /mnt; mkdir /mnt/d; echo x > /mnt/d/f",
        path: "/mnt/d/f",
        user: "setpriv --reuid 1234 --regid 1234 --clear-groups unshare --user --map-root-user",
        verdicts: &[(SETTING, WARNED), (TOKEN, WARNED)],
    },
    Layout {
        name: "the same, writable for others",
        setup: "mount -t tmpfs -o mode=755 none /mnt; mkdir /mnt/d; echo x > /mnt/d/f; chmod 777 /mnt/d",
        path: "/mnt/d/f",
        user: "setpriv --reuid 1234 --regid 1234 --clear-groups unshare --user --map-root-user",
        verdicts: &[(SETTING, REFUSED), (TOKEN, REFUSED)],
    },
    Layout {
        name: "an owner without a number in a sticky folder, who may be anybody",
        setup: "mkdir $T/s; chmod 1777 $T/s; echo x > $T/s/f",
        path: "s/f",
        user: "setpriv --reuid 1234 --regid 1234 --clear-groups unshare --user --map-root-user",
        verdicts: &[(SETTING, REFUSED), (TOKEN, REFUSED)],
    },
    Layout {
        name: "the user nobody where every user has a number",
        setup: "mkdir $T/d; echo x > $T/d/f; chown 65534 $T/d/f",
        path: "d/f",
        user: ROOT,
        verdicts: &[(SETTING, REFUSED)],
    },
];

#[test]
fn every_layout_gets_its_verdict() {
    if !rustix::process::geteuid().is_root() || !has_namespaces() {
        assert!(std::env::var_os("CI").is_none(), "CI runs as root");
        eprintln!("skipped: mount namespaces need root");
        return;
    }
    let bin = tempfile::tempdir().unwrap();
    let exe = bin.path().join("table");
    std::fs::copy(std::env::current_exe().unwrap(), &exe).unwrap();
    for folder in [bin.path(), &exe] {
        set_mode(folder, 0o755);
    }
    let mut wrong = Vec::new();
    for layout in LAYOUTS {
        let folder = tempfile::tempdir().unwrap();
        set_mode(folder.path(), 0o755);
        for (kind, expected) in layout.verdicts {
            let output = run(layout, kind, folder.path(), &exe);
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            if !said.contains(&format!("VERDICT {expected}")) {
                let errors = String::from_utf8_lossy(&output.stderr).into_owned();
                wrong.push(format!(
                    "{}: {kind} should be {expected}: {said}{errors}",
                    layout.name
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn run(layout: &Layout, kind: &str, folder: &Path, exe: &Path) -> Output {
    // The layout is made once; what is mounted goes with the namespace.
    let script = format!(
        "set -e; umask 022; rm -rf \"$T\"/*; {}\nexec {} \"$EXE\" --exact tells_its_verdict --ignored --nocapture",
        layout.setup, layout.user
    );
    Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", &script])
        .env("T", folder)
        .env("EXE", exe)
        .env("TRUST_PATH", folder.join(layout.path))
        .env("TRUST_KIND", kind)
        .output()
        .unwrap()
}

#[test]
#[ignore = "the table runs it inside a namespace"]
fn tells_its_verdict() {
    let Some(path) = std::env::var_os("TRUST_PATH") else {
        return;
    };
    let path = Path::new(&path);
    let kind = match std::env::var("TRUST_KIND").unwrap().as_str() {
        SECRET => Kind::Secret,
        TOKEN => Kind::Token,
        SETTING => Kind::Setting,
        _ => {
            match FilePlace::find(path) {
                Ok(_) => println!("VERDICT ok"),
                Err(error) => println!("VERDICT error {error}"),
            }
            return;
        }
    };
    let verdict = match open(path, kind) {
        // Not every user of the table may read every file.
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            judge(path, kind).unwrap()
        }
        opened => {
            let opened = opened.unwrap();
            assert_eq!(opened.verdict, judge(path, kind).unwrap());
            opened.verdict
        }
    };
    match verdict {
        Verdict::Trusted => println!("VERDICT {TRUSTED}"),
        Verdict::Warned(warning) => println!("VERDICT {WARNED} {warning}"),
        Verdict::Refused(refusal) => println!("VERDICT {REFUSED} {refusal}"),
    }
}

fn has_namespaces() -> bool {
    Command::new("unshare")
        .args([
            "--mount",
            "--propagation",
            "private",
            "setpriv",
            "--version",
        ])
        .output()
        .is_ok_and(|output| output.status.success())
}

fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;

    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}
