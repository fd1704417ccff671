//! The part of the file system that the agent works in, and that it confines itself to.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use kms_agent_kms::Environment;

use crate::config::{Config, LogTarget};
use crate::platform;
use crate::token::source::TokenSource;

/// Where name look-up, the CA roots of all distributions and time zones are. What is missing does not matter.
const SYSTEM: [&str; 10] = [
    "/etc",
    "/usr",
    "/lib",
    "/lib64",
    "/run/systemd/resolve",
    "/run/resolvconf",
    "/run/NetworkManager",
    "/var/lib/ca-certificates",
    // Where the files of NixOS and Guix are, which links in /etc lead to.
    "/nix/store",
    "/gnu/store",
];

/// Files of the system that may be links to places of their own.
const SYSTEM_FILES: [&str; 3] = ["/etc/resolv.conf", "/etc/hosts", "/etc/localtime"];

/// What the TLS library goes by instead of the system's CA roots.
const CA_VARIABLES: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];

/// Folders in which everything may be read, and those in which everything may be written too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reach {
    readable: Vec<PathBuf>,
    writable: Vec<PathBuf>,
    /// Nothing is out of reach, wherever it is.
    is_everything: bool,
}

impl Reach {
    /// The whole file system.
    pub(crate) fn everything() -> Self {
        Self {
            is_everything: true,
            ..Self::default()
        }
    }

    /// What the agent needs for `config`, which was read from `path`. Missing folders that it will write to
    /// are made, since only what exists can be left open.
    pub(crate) fn open(
        config: &Config,
        path: Option<&Path>,
        environment: &Environment,
        token: &TokenSource,
    ) -> Self {
        let mut reach = Self::default();
        let backend = &config.cache.backend.config;
        for folder in backend.folders() {
            // The backend tells of what cannot be made, when it misses it.
            let _ = platform::make_folder(&folder, 0o700);
            reach.writable.extend(fs::canonicalize(folder));
        }
        if let LogTarget::Folder(folder) = &config.log.target {
            reach.writable.extend(fs::canonicalize(folder));
        }
        let files = config.kms.files(environment).into_iter();
        for file in files
            .chain(backend.files())
            .chain(path.map(Path::to_owned))
            .chain(token.path().map(Path::to_owned))
            .chain(SYSTEM_FILES.map(PathBuf::from))
        {
            reach.read_beside(&file);
        }
        let roots = CA_VARIABLES.into_iter().filter_map(env::var_os);
        for path in roots.flat_map(|value| env::split_paths(&value).collect::<Vec<_>>()) {
            reach.readable.extend(fs::canonicalize(&path));
            reach.read_beside(&path);
        }
        reach
            .readable
            .extend(SYSTEM.into_iter().flat_map(fs::canonicalize));
        reach.readable.sort();
        reach.readable.dedup();
        reach
    }

    /// Lets the folder of `file` be read, and that of what it links to. While there is no such folder, the one
    /// it will be made in stands for it, unless that is the root of everything.
    fn read_beside(&mut self, file: &Path) {
        let target = fs::canonicalize(file).ok();
        for file in [Some(file), target.as_deref()].into_iter().flatten() {
            if let Ok(found) = fs::canonicalize(folder(file)) {
                self.readable.push(found);
                continue;
            }
            let above = folder(file)
                .ancestors()
                .find_map(|it| fs::canonicalize(it).ok());
            self.readable
                .extend(above.filter(|above| above.parent().is_some()));
        }
    }

    #[cfg(target_os = "linux")]
    pub(super) fn readable(&self) -> &[PathBuf] {
        &self.readable
    }

    #[cfg(target_os = "linux")]
    pub(super) fn writable(&self) -> &[PathBuf] {
        &self.writable
    }

    /// Whether files may be made in `folder`, which need not exist.
    pub(crate) fn may_write(&self, folder: &Path) -> bool {
        self.is_everything || is_below(&resolved(folder), &self.writable)
    }

    /// Whether `file`, which need not exist, may be read.
    pub(crate) fn may_read(&self, file: &Path) -> bool {
        let file = resolved(file);
        self.is_everything || is_below(&file, &self.readable) || is_below(&file, &self.writable)
    }
}

fn is_below(path: &Path, folders: &[PathBuf]) -> bool {
    folders.iter().any(|folder| path.starts_with(folder))
}

/// The folder that `file` stands in.
fn folder(file: &Path) -> &Path {
    file.parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

/// `path` without links, as far as it exists.
fn resolved(path: &Path) -> PathBuf {
    match (fs::canonicalize(path), path.file_name()) {
        (Ok(path), _) => path,
        (Err(_), Some(name)) => resolved(folder(path)).join(name),
        (Err(_), None) => path.to_owned(),
    }
}

#[cfg(all(test, unix))]
mod tests {
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
}
