//! seccomp: system calls that the agent never makes are refused, so that an attacker who controls the process cannot
//! make them either. Everything else passes, because a list of allowed calls breaks with the next C library.

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(super) use self::known::install;

/// Reports that no filter is installed.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(super) fn install() -> Result<(), String> {
    Err("the system calls of this architecture are not known to the agent".to_owned())
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod known {
    use std::env::consts::ARCH;

    use linux_raw_sys::general as call;
    use rustix::io::Errno;
    use seccompiler::{
        BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
        SeccompFilter, SeccompRule, TargetArch, apply_filter, sock_filter,
    };

    const DENIED: [u32; 41] = [
        // Another program in the place of this one.
        call::__NR_execve,
        call::__NR_execveat,
        // The memory and descriptors of other processes.
        call::__NR_ptrace,
        call::__NR_process_vm_readv,
        call::__NR_process_vm_writev,
        call::__NR_process_madvise,
        call::__NR_kcmp,
        call::__NR_pidfd_getfd,
        // Ways around checks of the kernel, of this filter and of Landlock.
        call::__NR_bpf,
        call::__NR_io_uring_setup,
        call::__NR_io_uring_enter,
        call::__NR_io_uring_register,
        call::__NR_userfaultfd,
        call::__NR_perf_event_open,
        call::__NR_open_by_handle_at,
        // Namespaces and mounts.
        call::__NR_unshare,
        call::__NR_setns,
        call::__NR_mount,
        call::__NR_umount2,
        call::__NR_move_mount,
        call::__NR_fsopen,
        call::__NR_fsconfig,
        call::__NR_fsmount,
        call::__NR_fspick,
        call::__NR_open_tree,
        call::__NR_open_tree_attr,
        call::__NR_mount_setattr,
        call::__NR_pivot_root,
        call::__NR_chroot,
        // The kernel itself.
        call::__NR_kexec_load,
        call::__NR_kexec_file_load,
        call::__NR_init_module,
        call::__NR_finit_module,
        call::__NR_delete_module,
        call::__NR_reboot,
        call::__NR_swapon,
        call::__NR_swapoff,
        call::__NR_acct,
        // Its key rings.
        call::__NR_add_key,
        call::__NR_request_key,
        call::__NR_keyctl,
    ];

    /// Flags of `clone` that begin a namespace.
    const NAMESPACES: [u32; 7] = [
        call::CLONE_NEWNS,
        call::CLONE_NEWCGROUP,
        call::CLONE_NEWUTS,
        call::CLONE_NEWIPC,
        call::CLONE_NEWUSER,
        call::CLONE_NEWPID,
        call::CLONE_NEWNET,
    ];

    /// Installs the filter for this thread and later threads. Returns the reason for a failure.
    pub(in crate::process) fn install() -> Result<(), String> {
        let program = program().map_err(|error| error.to_string())?;
        apply_filter(&program).map_err(|error| error.to_string())
    }

    /// The whole program. Calls of another architecture than the one that this program was built for end the process.
    fn program() -> Result<BpfProgram, BackendError> {
        let denied = DENIED.into_iter().map(|number| (number, Vec::new()));
        let cloning = NAMESPACES
            .into_iter()
            .map(|flag| {
                let flag = u64::from(flag);
                let is_set = SeccompCmpOp::MaskedEq(flag);
                let condition = SeccompCondition::new(0, SeccompCmpArgLen::Qword, is_set, flag)?;
                SeccompRule::new(vec![condition])
            })
            .collect::<Result<Vec<_>, _>>()?;
        let rules = denied
            .chain([(call::__NR_clone, cloning)])
            .map(|(number, rules)| (number.into(), rules))
            .collect();
        let architecture: TargetArch = ARCH.try_into()?;
        let filter = SeccompFilter::new(
            rules,
            SeccompAction::Allow,
            SeccompAction::Errno(Errno::PERM.raw_os_error().unsigned_abs()),
            architecture,
        )?;
        let mut program = refuse_first();
        program.extend(BpfProgram::try_from(filter)?);
        Ok(program)
    }

    /// Refuses the calls of x32, which has numbers of its own for the same architecture, and `clone3`, whose flags a
    /// filter cannot see. C libraries make do with `clone` where there is no `clone3`.
    fn refuse_first() -> BpfProgram {
        const LOAD_NUMBER: (u16, u32) = (0x20, 0);
        const IS_AT_LEAST: u16 = 0x35;
        const IS: u16 = 0x15;
        const RETURN: u16 = 0x06;
        const X32: u32 = 0x4000_0000;
        let step = |code, k, jt, jf| sock_filter { code, jt, jf, k };
        let (load, number) = LOAD_NUMBER;
        vec![
            step(load, number, 0, 0),
            step(IS_AT_LEAST, X32, 0, 1),
            step(RETURN, errno(Errno::PERM), 0, 0),
            step(IS, call::__NR_clone3, 0, 1),
            step(RETURN, errno(Errno::NOSYS), 0, 0),
        ]
    }

    /// The action that has a call fail with `error`.
    fn errno(error: Errno) -> u32 {
        SeccompAction::Errno(error.raw_os_error().unsigned_abs()).into()
    }

    #[cfg(test)]
    mod tests {
        use std::net::ToSocketAddrs;
        use std::process::Command;
        use std::thread;

        use super::*;

        const ALLOW: u32 = 0x7fff_0000;
        const KILL: u32 = 0x8000_0000;
        const I386: u32 = 0x4000_0003;
        const ARM: u32 = 0x4000_0028;
        #[cfg(target_arch = "x86_64")]
        const OURS: u32 = 0xc000_003e;
        #[cfg(target_arch = "aarch64")]
        const OURS: u32 = 0xc000_00b7;

        /// The program's verdict on a call, as the kernel computes it.
        fn verdict(program: &[sock_filter], architecture: u32, number: u32, argument: u64) -> u32 {
            let mut data = [number.to_ne_bytes(), architecture.to_ne_bytes()].concat();
            data.extend([0; 8]);
            data.extend(argument.to_ne_bytes());
            data.extend([0; 40]);
            let load = |at: u32| {
                let at = usize::try_from(at).unwrap();
                u32::from_ne_bytes(data.get(at..at + 4).unwrap().try_into().unwrap())
            };
            let (mut at, mut held) = (0, 0_u32);
            loop {
                let step = program.get(at).unwrap();
                let (yes, no) = (usize::from(step.jt), usize::from(step.jf));
                let jump = |holds| if holds { yes } else { no };
                at += 1 + match step.code {
                    0x20 => {
                        held = load(step.k);
                        0
                    }
                    0x54 => {
                        held &= step.k;
                        0
                    }
                    0x05 => usize::try_from(step.k).unwrap(),
                    0x15 => jump(held == step.k),
                    0x25 => jump(held > step.k),
                    0x35 => jump(held >= step.k),
                    0x06 => return step.k,
                    code => unreachable!("code {code:#x}"),
                };
            }
        }

        #[test]
        fn calls_that_the_agent_never_makes_are_refused_and_others_are_not() {
            let program = program().unwrap();
            let judge = |number, argument| verdict(&program, OURS, number, argument);
            for number in DENIED {
                assert_eq!(judge(number, 0), errno(Errno::PERM), "{number}");
            }
            for number in [
                call::__NR_read,
                call::__NR_openat,
                call::__NR_prctl,
                call::__NR_futex,
                call::__NR_accept4,
                call::__NR_landlock_restrict_self,
                call::__NR_wait4,
                call::__NR_exit_group,
            ] {
                assert_eq!(judge(number, u64::MAX), ALLOW, "{number}");
            }
            assert_eq!(judge(call::__NR_clone3, 0), errno(Errno::NOSYS));
            let thread = call::CLONE_VM | call::CLONE_FS | call::CLONE_FILES | call::CLONE_THREAD;
            assert_eq!(judge(call::__NR_clone, thread.into()), ALLOW);
            for flag in NAMESPACES {
                let flags = u64::from(flag | thread);
                assert_eq!(judge(call::__NR_clone, flags), errno(Errno::PERM));
            }
        }

        #[test]
        fn calls_of_other_architectures_are_not_let_through() {
            let program = program().unwrap();
            for foreign in [I386, ARM] {
                assert_eq!(verdict(&program, foreign, 11, 0), KILL);
                assert_eq!(verdict(&program, foreign, call::__NR_read, 0), KILL);
            }
            // execve of x32, and getpid of it.
            for number in [0x4000_0000 + 520, 0x4000_0000 + 39] {
                assert_eq!(verdict(&program, OURS, number, 0), errno(Errno::PERM));
            }
        }

        #[test]
        fn a_filtered_thread_works_on_and_starts_no_program() {
            let thread = thread::spawn(|| {
                if let Err(error) = install() {
                    eprintln!("skipped: this system takes no filter: {error}");
                    return;
                }
                let started = Command::new("true").status();
                assert_eq!(
                    started.unwrap_err().raw_os_error(),
                    Some(Errno::PERM.raw_os_error())
                );
                assert!(thread::spawn(|| ()).join().is_ok());
                assert!(("localhost", 80).to_socket_addrs().is_ok());
                assert!(std::fs::read("/proc/self/status").is_ok());
            });
            thread.join().unwrap();
        }
    }
}
