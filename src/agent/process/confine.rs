//! Landlock confinement, which holds even if an attacker controls the process.

use landlock::{
    ABI, Access, AccessFs, BitFlags, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError,
    RulesetStatus, Scope, path_beneath_rules,
};

use super::reach::Reach;

/// Confines this thread and later threads to `reach`. Older kernels enforce only a part of it. Returns the reason if
/// nothing is enforced.
pub(super) fn confine(reach: &Reach) -> Result<(), String> {
    match enforce(reach) {
        Ok(RulesetStatus::NotEnforced) => {
            Err("this kernel has no Landlock, or it is switched off".to_owned())
        }
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

fn enforce(reach: &Reach) -> Result<RulesetStatus, RulesetError> {
    let read: BitFlags<AccessFs> = AccessFs::ReadFile.into();
    let list = read | AccessFs::ReadDir;
    let write = AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::MakeReg
        | AccessFs::MakeDir
        | AccessFs::RemoveFile;
    let status = Ruleset::default()
        // The newest version that was tried. What later ones add is not given up.
        .handle_access(AccessFs::from_all(ABI::V5))?
        // Neither signals to other programs nor their sockets without a file. A socket that was connected before
        // stays usable.
        .scope(Scope::from_all(ABI::V6))?
        .create()?
        .add_rules(path_beneath_rules(reach.listable(), list))?
        .add_rules(path_beneath_rules(reach.readable(), read))?
        .add_rules(path_beneath_rules(reach.writable(), list | write))?
        .add_rules(path_beneath_rules(reach.only_writable(), write))?
        .add_rules(path_beneath_rules(reach.removable(), AccessFs::RemoveFile))?
        .restrict_self()?;
    Ok(status.ruleset)
}
