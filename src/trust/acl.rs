//! POSIX ACLs, which give rights that the mode does not show.

use std::path::Path;

use crate::identity::{Owner, is_own_group};

const VERSION: u32 = 2;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;

/// The rights that an ACL gives beyond owner and others, as bits of a mode (4 read, 2 write, 1 execute).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Acl {
    /// Of users and groups that are named in it and are strangers: the mask.
    pub(crate) strangers: u16,
    /// Of the file's own group. In the mode, the mask stands in its place.
    pub(crate) group: u16,
}

impl Acl {
    /// The ACL of the file at `path`, if it has one beyond the mode.
    pub(crate) fn read(path: &Path) -> Option<Self> {
        #[cfg(target_os = "linux")]
        {
            let mut bytes = [0; 4096];
            let length = rustix::fs::lgetxattr(path, "system.posix_acl_access", &mut bytes).ok()?;
            Self::parse(bytes.get(..length)?)
        }
        #[cfg(not(target_os = "linux"))]
        {
            let _ = path;
            None
        }
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (version, entries) = bytes.split_first_chunk()?;
        if u32::from_le_bytes(*version) != VERSION {
            return None;
        }
        let entries = entries.as_chunks::<8>().0.iter().map(|entry| {
            let [t0, t1, p0, p1, id @ ..] = *entry;
            (
                u16::from_le_bytes([t0, t1]),
                u16::from_le_bytes([p0, p1]),
                u32::from_le_bytes(id),
            )
        });
        // Without a mask there are no entries beyond the mode's three.
        let (_, mask, _) = entries.clone().find(|(tag, ..)| *tag == MASK)?;
        let mut acl = Self::default();
        for (tag, rights, id) in entries {
            match tag {
                GROUP_OBJ => acl.group = rights & mask,
                USER if rights != 0 && Owner::of(id) != Owner::Own => acl.strangers = mask,
                GROUP if rights != 0 && !is_own_group(id) => acl.strangers = mask,
                _ => {}
            }
        }
        Some(acl)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let mut bytes = VERSION.to_le_bytes().to_vec();
        for (tag, rights, id) in entries {
            bytes.extend(tag.to_le_bytes());
            bytes.extend(rights.to_le_bytes());
            bytes.extend(id.to_le_bytes());
        }
        bytes
    }

    #[test]
    fn a_stranger_counts_as_the_mask_and_own_entries_count_as_nothing() {
        let none = u32::MAX;
        let own = rustix::process::geteuid().as_raw();
        for (user, strangers) in [(54_321, 6), (own, 0), (0, 0)] {
            let acl = bytes(&[
                (0x01, 6, none),
                (USER, 4, user),
                (GROUP_OBJ, 4, none),
                (MASK, 6, none),
                (0x20, 0, none),
            ]);
            let expected = Acl {
                strangers,
                group: 4,
            };
            assert_eq!(Acl::parse(&acl), Some(expected), "{user}");
        }
        let group = bytes(&[
            (GROUP_OBJ, 7, none),
            (GROUP, 2, 54_321),
            (USER, 0, 54_321),
            (MASK, 2, none),
        ]);
        assert_eq!(
            Acl::parse(&group),
            Some(Acl {
                strangers: 2,
                group: 2
            })
        );
    }

    #[test]
    fn a_minimal_or_malformed_acl_is_ignored() {
        let none = u32::MAX;
        let minimal = bytes(&[(0x01, 6, none), (GROUP_OBJ, 4, none), (0x20, 0, none)]);
        for text in [&minimal[..], b"", b"\x01\0\0\0", b"\x02\0\0"] {
            assert_eq!(Acl::parse(text), None);
        }
    }
}
