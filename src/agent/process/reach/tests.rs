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
    reach.read_beside(&here.join("link"));
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
        &TokenSource::File(path("token/token")),
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
