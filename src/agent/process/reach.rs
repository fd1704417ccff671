//! Paths that the agent needs, and to which it confines itself.

mod width;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use kms_agent_files::FileSettings;
use kms_agent_kms::{Environment, files as kms_files};
use kms_agent_trust::folder_of;

use self::width::{Homes, Width};
use crate::config::{Config, LogTarget};
use crate::platform;

/// Folders of name look-up, the CA roots of all distributions and time zones. A missing one is skipped.
const SYSTEM: [&str; 10] = [
    "/etc",
    "/usr",
    "/lib",
    "/lib64",
    "/run/systemd/resolve",
    "/run/resolvconf",
    "/run/NetworkManager",
    "/var/lib/ca-certificates",
    // Files of NixOS and Guix, to which links in /etc lead.
    "/nix/store",
    "/gnu/store",
];

/// Files of the system that may be links to places of their own.
const SYSTEM_FILES: [&str; 3] = ["/etc/resolv.conf", "/etc/hosts", "/etc/localtime"];

/// Variables of the TLS library that replace the system's CA roots.
const CA_FILE: &str = "SSL_CERT_FILE";
const CA_FOLDERS: &str = "SSL_CERT_DIR";

/// Places in which files may be read or written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reach {
    /// Folders whose files may be listed and read.
    listable: Vec<PathBuf>,
    /// Folders whose files may be read by name, and single files.
    readable: Vec<PathBuf>,
    /// Folders whose files may be listed, read and written.
    writable: Vec<PathBuf>,
    /// Folders from which files may be removed.
    removable: Vec<PathBuf>,
    /// Folders in which files may be written and no others read.
    only_writable: Vec<PathBuf>,
    /// Every path may be opened.
    is_everything: bool,
    /// Files that the agent reads, whether or not they are there.
    files: Vec<PathBuf>,
    /// Those whose folder stays shut, so that only the file that is there now is open.
    unfollowed: Vec<PathBuf>,
    /// Folders that are writable and hold more than the store or its key.
    shared_with_store: Vec<PathBuf>,
    /// Folders that are writable and hold more than the files of the config.
    shared_with_files: Vec<PathBuf>,
    /// Folders that do not exist, and are out of reach when they do.
    missing: Vec<PathBuf>,
}

impl Reach {
    /// Returns the whole file system.
    pub(crate) fn everything() -> Self {
        Self {
            is_everything: true,
            ..Self::default()
        }
    }

    /// Returns the paths that the agent needs for `config`, which was read from `path`, and for the token file `token`.
    /// Missing folders of the cache are created, since only an existing folder can be left open.
    pub(crate) fn open(
        config: &Config,
        path: Option<&Path>,
        environment: &Environment,
        token: Option<&Path>,
    ) -> Self {
        for folder in config.cache.backend.config.folders() {
            // The backend reports a folder that could not be created.
            let _ = kms_agent_trust::make_folder(&folder, 0o700);
        }
        Self::find(config, path, environment, token)
    }

    /// Does the same without creating a folder.
    pub(crate) fn find(
        config: &Config,
        path: Option<&Path>,
        environment: &Environment,
        token: Option<&Path>,
    ) -> Self {
        let homes = Homes::of(env::var_os(platform::HOME).map(PathBuf::from));
        let mut reach = Self::default();
        reach
            .listable
            .extend(SYSTEM.into_iter().flat_map(fs::canonicalize));
        let roots = env::var_os(CA_FOLDERS).unwrap_or_default();
        for folder in env::split_paths(&roots).flat_map(fs::canonicalize) {
            if homes.width(&folder) == Width::Narrow {
                reach.listable.push(folder);
            } else {
                reach.unfollowed.push(folder);
            }
        }
        let backend = &config.cache.backend.config;
        for folder in backend.folders().into_iter().flat_map(fs::canonicalize) {
            if homes.width(&folder) != Width::Narrow {
                reach.shared_with_store.push(folder.clone());
            }
            reach.writable.push(folder);
        }
        if let LogTarget::Folder(folder) = &config.log.target
            && let Ok(folder) = fs::canonicalize(folder)
        {
            match homes.width(&folder) {
                Width::Narrow => reach.writable.push(folder),
                Width::Exchange | Width::Wide => reach.only_writable.push(folder),
            }
        }
        for file in &config.files {
            let folder = folder_of(&file.path);
            match fs::canonicalize(folder) {
                Ok(folder) => {
                    if homes.width(&folder) != Width::Narrow {
                        reach.shared_with_files.push(folder.clone());
                    }
                    reach.writable.push(folder);
                }
                Err(_) => reach.missing.push(folder.to_owned()),
            }
        }
        let templates = config.files.iter().filter_map(FileSettings::template);
        // The socket's name is removed at shutdown.
        if let Some(socket) = &config.server.socket.path {
            reach.removable.extend(fs::canonicalize(folder_of(socket)));
        }
        let files = path
            .map(Path::to_owned)
            .into_iter()
            .chain(token.map(Path::to_owned))
            .chain(kms_files::all(&config.kms, environment))
            .chain(config.clients.iter().filter_map(|it| it.token_file.clone()))
            .chain(backend.files())
            .chain(templates.map(Path::to_owned))
            .chain(env::var_os(CA_FILE).map(PathBuf::from));
        for file in files {
            reach.follow(&file, &homes);
            reach.files.push(file);
        }
        for file in SYSTEM_FILES.map(Path::new) {
            let _ = reach.let_in(file, &homes);
        }
        for places in [
            &mut reach.listable,
            &mut reach.readable,
            &mut reach.writable,
            &mut reach.shared_with_files,
            &mut reach.missing,
        ] {
            places.sort();
            places.dedup();
        }
        reach
    }

    /// Allows `file` to be read, and as far as possible a file that replaces it. Records a file for which that is not
    /// possible.
    fn follow(&mut self, file: &Path, homes: &Homes) {
        match self.let_in(file, homes) {
            Ok(()) => {}
            Err(Closed::Missing(folder)) => self.missing.push(folder),
            Err(Closed::Wide) => self.unfollowed.push(file.to_owned()),
        }
    }

    /// Allows the folder of `file` to be read, and that of its link target. In a folder with files of others only the
    /// file itself is allowed, if it exists.
    fn let_in(&mut self, file: &Path, homes: &Homes) -> Result<(), Closed> {
        let folder = folder_of(file);
        // A folder that is a link may be redirected, as Kubernetes does with `..data`.
        for link in folder.ancestors().filter(|above| above.is_symlink()) {
            let _ = self.let_in_folder(folder_of(link), homes);
        }
        let beside = self.let_in_folder(folder, homes);
        let Ok(target) = fs::canonicalize(file) else {
            return beside;
        };
        let around = self.let_in_folder(folder_of(&target), homes);
        if around.is_err() {
            self.readable.push(target);
        }
        around
    }

    fn let_in_folder(&mut self, folder: &Path, homes: &Homes) -> Result<(), Closed> {
        let found = fs::canonicalize(folder).map_err(|_| Closed::Missing(folder.to_owned()))?;
        if self.may_read(&found) {
            return Ok(());
        }
        match homes.width(&found) {
            Width::Narrow | Width::Exchange => {
                self.readable.push(found);
                Ok(())
            }
            Width::Wide => Err(Closed::Wide),
        }
    }

    /// Warnings about files and folders that an operator should put elsewhere.
    #[cfg(target_os = "linux")]
    pub(crate) fn warnings(&self) -> impl Iterator<Item = String> {
        let unfollowed = self.unfollowed.iter().map(|file| {
            format!(
                "the folder of {} stays shut, since it holds more than the agent's files: another file in that place \
                 needs a restart; put it into a folder of its own",
                file.display()
            )
        });
        let written = self.only_writable.iter().map(|folder| {
            format!(
                "the process may write every file of its user below {}, where its log is; give the log a folder of its \
                 own",
                folder.display()
            )
        });
        let shared = self.shared_with_store.iter().map(|folder| {
            format!(
                "the process may read and write every file of its user below {}, where its store or key is; give both \
                 folders of their own",
                folder.display()
            )
        });
        let exposed = self.shared_with_files.iter().map(|folder| {
            format!(
                "the process may read and write every file of its user below {}, where a file of [[File]] is; give it a \
                 folder of its own",
                folder.display()
            )
        });
        unfollowed.chain(written).chain(shared).chain(exposed)
    }

    /// Folders that do not exist, and whose files will be out of reach.
    pub(crate) fn missing(&self) -> &[PathBuf] {
        &self.missing
    }

    /// Files that the agent reads, whether or not they are there.
    pub(crate) fn files(&self) -> &[PathBuf] {
        &self.files
    }

    #[cfg(target_os = "linux")]
    pub(super) fn listable(&self) -> &[PathBuf] {
        &self.listable
    }

    #[cfg(target_os = "linux")]
    pub(super) fn readable(&self) -> &[PathBuf] {
        &self.readable
    }

    #[cfg(target_os = "linux")]
    pub(super) fn writable(&self) -> &[PathBuf] {
        &self.writable
    }

    #[cfg(target_os = "linux")]
    pub(super) fn removable(&self) -> &[PathBuf] {
        &self.removable
    }

    #[cfg(target_os = "linux")]
    pub(super) fn only_writable(&self) -> &[PathBuf] {
        &self.only_writable
    }

    /// Whether files may be made in `folder`, which need not exist.
    pub(crate) fn may_write(&self, folder: &Path) -> bool {
        let folder = resolved(folder);
        self.is_everything
            || is_below(&folder, &self.writable)
            || is_below(&folder, &self.only_writable)
    }

    /// Whether files in `folder`, which need not exist, may be listed, read and replaced.
    pub(crate) fn may_replace(&self, folder: &Path) -> bool {
        self.is_everything || is_below(&resolved(folder), &self.writable)
    }

    /// Whether `file`, which need not exist, may be read.
    pub(crate) fn may_read(&self, file: &Path) -> bool {
        let file = resolved(file);
        self.is_everything
            || [&self.listable, &self.readable, &self.writable]
                .into_iter()
                .any(|places| is_below(&file, places))
    }
}

/// Reason why a folder stays closed.
#[derive(Debug)]
enum Closed {
    Missing(PathBuf),
    Wide,
}

fn is_below(path: &Path, folders: &[PathBuf]) -> bool {
    folders.iter().any(|folder| path.starts_with(folder))
}

/// Resolves the links in `path`, as far as it exists.
fn resolved(path: &Path) -> PathBuf {
    match (fs::canonicalize(path), path.file_name()) {
        (Ok(path), _) => path,
        (Err(_), Some(name)) => resolved(folder_of(path)).join(name),
        (Err(_), None) => path.to_owned(),
    }
}

#[cfg(all(test, unix))]
mod tests;
