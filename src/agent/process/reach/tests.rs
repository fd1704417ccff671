use std::os::unix::fs::symlink;

use super::*;

#[test]
fn links_are_followed_to_where_they_lead() {
    let inside = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    let (here, there) = (inside.path(), outside.path());
    fs::write(there.join("file"), "").unwrap();
    symlink(there.join("file"), here.join("link")).unwrap();
    symlink(there, here.join("way-out")).unwrap();
    let reach = Reach {
        readable: vec![fs::canonicalize(here).unwrap()],
        ..Reach::default()
    };
    assert!(reach.may_read(&here.join("new")));
    assert!(reach.may_read(&here.join("new/newer")));
    for elsewhere in ["link", "way-out/file", "way-out/new", "../new"] {
        assert!(!reach.may_read(&here.join(elsewhere)), "{elsewhere}");
    }
    assert!(!reach.may_write(here));
    assert!(Reach::everything().may_read(there) && Reach::everything().may_write(there));

    let mut reach = Reach::default();
    reach.follow(&here.join("link"), &Homes::default());
    assert!(reach.may_read(&here.join("link")) && reach.may_read(&here.join("new")));
}

#[test]
fn what_the_config_names_is_within_reach_and_missing_folders_are_made() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for name in ["etc", "token", "ca", "logs"] {
        fs::create_dir(path(name)).unwrap();
    }
    let at = folder.path().display();
    let text = format!(
        "[KMS]\nCaFile = \"{at}/ca/root.pem\"\n[Log]\nLogPath = \"{at}/logs\"\n\
         [Cache]\nCacheType = \"Persistent\"\n\
         [Cache.Persistent]\nPath = \"{at}/a/b/store\"\nKeyFile = \"{at}/keys/key\"\n"
    );
    let config = Config::parse(&text, "config.toml").unwrap();
    let reach = Reach::open(
        &config,
        Some(&path("etc/config.toml")),
        &Environment::default(),
        Some(&path("token/token")),
    );
    for writable in ["logs", "a/b", "keys"] {
        assert!(reach.may_write(&path(writable)), "{writable}");
    }
    for readable in ["etc/config.toml", "token/next", "ca/root.pem", "keys/key"] {
        assert!(reach.may_read(&path(readable)), "{readable}");
    }
    for closed in ["etc", "token", "ca", "a", ""] {
        assert!(!reach.may_write(&path(closed)), "{closed}");
    }
    assert!(!reach.may_read(&path("a/store")));
    assert!(reach.may_read(Path::new("/etc/resolv.conf")));
}

#[test]
fn a_home_stays_shut_but_for_the_file_that_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let home = fs::canonicalize(folder.path()).unwrap();
    for name in ["token", "other"] {
        fs::write(home.join(name), "").unwrap();
    }
    fs::create_dir(home.join(".aliyun")).unwrap();
    let homes = Homes::of(Some(home.clone()));
    let mut reach = Reach::default();
    for file in [
        "token",
        "ca.pem",
        ".aliyun/config.json",
        ".alibabacloud/credentials",
    ] {
        reach.follow(&home.join(file), &homes);
    }
    for (name, is_open) in [
        ("token", true),
        (".aliyun/config.json", true),
        ("other", false),
        ("ca.pem", false),
        (".alibabacloud/credentials", false),
    ] {
        assert_eq!(reach.may_read(&home.join(name)), is_open, "{name}");
    }
    assert_eq!(reach.unfollowed, [home.join("token"), home.join("ca.pem")]);
    assert_eq!(reach.missing(), [home.join(".alibabacloud")]);
}

#[test]
fn a_folder_that_is_a_link_is_followed_when_it_is_swapped() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for name in ["volume", "volume/one", "volume/two"] {
        fs::create_dir(at(name)).unwrap();
        fs::write(at(name).join("token"), "").unwrap();
    }
    symlink("one", at("volume/..data")).unwrap();
    let mut reach = Reach::default();
    reach.follow(&at("volume/..data/token"), &Homes::default());
    assert!(reach.may_read(&at("volume/two/token")));
    assert!(!reach.may_read(&at("elsewhere")));
}

#[test]
fn a_missing_folder_is_never_stood_in_for() {
    let mut reach = Reach::default();
    reach.follow(
        Path::new("/home/nobody-here/.aliyun/config.json"),
        &Homes::of(Some("/home/nobody-here".into())),
    );
    assert_eq!(reach.listable(), reach.readable());
    assert!(!reach.may_read(Path::new("/home/nobody-here/.aliyun/config.json")));
    assert_eq!(reach.missing(), [Path::new("/home/nobody-here/.aliyun")]);
}
