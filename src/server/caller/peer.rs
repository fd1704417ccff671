//! The other end of a connection, as the kernel knows it.

use std::fmt::Debug;
use std::sync::{Arc, OnceLock};

use kms_agent_core::run_blocking;

/// The other end of a connection.
#[derive(Debug)]
pub enum Peer {
    /// A program of this machine, from this port.
    Tcp {
        /// Its port.
        port: u16,
    },
    /// A program of this machine, through the Unix socket.
    Unix(PeerUser),
}

/// User of the process that connected to the Unix socket, as it was at that moment.
#[derive(Debug)]
pub struct PeerUser {
    /// Its user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its process, for the audit only: numbers of processes are used again.
    pub pid: Option<i32>,
    /// Supplementary groups; not set until a rule needs them.
    groups: OnceLock<Vec<u32>>,
}

/// Look-up of the supplementary groups of a user. It may wait for a file.
pub trait GroupLookup: Debug + Send + Sync + 'static {
    /// Returns the groups of the user, without `gid`, which is that of the process. Empty when they cannot be learnt.
    fn groups_of(&self, uid: u32, gid: u32) -> Vec<u32>;
}

/// Numbers that stand for every user or group that this namespace does not know. They identify nobody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnmappedIds {
    /// Overflow uid, unless every user is mapped.
    pub uid: Option<u32>,
    /// Overflow gid, unless every group is mapped.
    pub gid: Option<u32>,
}

impl Peer {
    /// Returns the port for the log; 0 through the Unix socket.
    pub(crate) fn port(&self) -> u16 {
        match self {
            Self::Tcp { port } => *port,
            Self::Unix(_) => 0,
        }
    }
}

impl PeerUser {
    /// Returns a user whose supplementary groups are not known yet.
    pub fn new(uid: u32, gid: u32, pid: Option<i32>) -> Self {
        Self {
            uid,
            gid,
            pid,
            groups: OnceLock::new(),
        }
    }

    /// Whether the process has the group. Supplementary groups count once [`learn_groups`](Self::learn_groups) was run.
    pub(super) fn has_group(&self, gid: u32) -> bool {
        let supplementary = self.groups.get().map_or(&[][..], Vec::as_slice);
        self.gid == gid || supplementary.contains(&gid)
    }

    /// Looks up the supplementary groups, once a connection.
    pub(super) async fn learn_groups(&self, lookup: &Arc<dyn GroupLookup>) {
        if self.groups.get().is_some() {
            return;
        }
        let (lookup, uid, gid) = (Arc::clone(lookup), self.uid, self.gid);
        // Without a thread the user has no supplementary groups for this request.
        if let Ok(groups) = run_blocking(move || lookup.groups_of(uid, gid)).await {
            let _ = self.groups.set(groups);
        }
    }
}
