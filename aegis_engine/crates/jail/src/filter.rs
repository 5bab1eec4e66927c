//! seccomp: the system calls that numerical Python needs, some with certain arguments only. Every other one fails with `EPERM`.

use std::collections::BTreeMap;
use std::io;

use libc as c;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Len, SeccompCmpOp as Op,
    SeccompCondition as Condition, SeccompFilter, SeccompRule, TargetArch, apply_filter,
};

use crate::{JailError, Layer};

#[cfg(target_arch = "x86_64")]
const ARCH: TargetArch = TargetArch::x86_64;
#[cfg(target_arch = "aarch64")]
const ARCH: TargetArch = TargetArch::aarch64;

/// Allowed with any arguments. None of them names another process, a network, a device's driver or a namespace.
///
/// What counts over all tasks is not among them, as one task could write there what the next reads: pipes have numbers of one
/// counter for the whole machine, and `sysinfo` tells how busy it was.
const FREE: &[c::c_long] = &[
    // descriptors that are open
    c::SYS_read,
    c::SYS_write,
    c::SYS_readv,
    c::SYS_writev,
    c::SYS_pread64,
    c::SYS_pwrite64,
    c::SYS_lseek,
    c::SYS_close,
    c::SYS_close_range,
    c::SYS_fstat,
    c::SYS_dup,
    c::SYS_dup3,
    c::SYS_ftruncate,
    c::SYS_fallocate,
    c::SYS_fsync,
    c::SYS_fdatasync,
    c::SYS_fadvise64,
    c::SYS_getdents64,
    // files by name: Landlock and the view say which
    c::SYS_openat,
    c::SYS_newfstatat,
    c::SYS_statx,
    c::SYS_faccessat,
    c::SYS_faccessat2,
    c::SYS_readlinkat,
    c::SYS_unlinkat,
    c::SYS_mkdirat,
    c::SYS_renameat2,
    c::SYS_getcwd,
    c::SYS_chdir,
    c::SYS_umask,
    c::SYS_fchmod,
    // memory
    c::SYS_munmap,
    c::SYS_mprotect,
    c::SYS_mremap,
    c::SYS_madvise,
    c::SYS_brk,
    c::SYS_mincore,
    c::SYS_get_mempolicy,
    c::SYS_membarrier,
    // threads of this process
    c::SYS_futex,
    c::SYS_set_robust_list,
    c::SYS_get_robust_list,
    c::SYS_rseq,
    c::SYS_set_tid_address,
    c::SYS_gettid,
    c::SYS_sched_yield,
    c::SYS_sched_getaffinity,
    c::SYS_sched_getparam,
    c::SYS_sched_getscheduler,
    c::SYS_getcpu,
    c::SYS_exit,
    c::SYS_exit_group,
    // signals within this process
    c::SYS_rt_sigaction,
    c::SYS_rt_sigprocmask,
    c::SYS_rt_sigreturn,
    c::SYS_sigaltstack,
    c::SYS_rt_sigtimedwait,
    c::SYS_rt_sigpending,
    c::SYS_restart_syscall,
    // facts and time
    c::SYS_getpid,
    c::SYS_getppid,
    c::SYS_getuid,
    c::SYS_geteuid,
    c::SYS_getgid,
    c::SYS_getegid,
    c::SYS_getgroups,
    c::SYS_uname,
    c::SYS_getrusage,
    c::SYS_times,
    c::SYS_clock_gettime,
    c::SYS_clock_getres,
    c::SYS_clock_nanosleep,
    c::SYS_nanosleep,
    c::SYS_gettimeofday,
    c::SYS_getrandom,
    // waiting within the process
    c::SYS_ppoll,
    c::SYS_pselect6,
    c::SYS_eventfd2,
    c::SYS_epoll_create1,
    c::SYS_epoll_ctl,
    c::SYS_epoll_pwait,
    c::SYS_clone3,
];

/// The older names that x86-64 has beside.
#[cfg(target_arch = "x86_64")]
const OLDER: &[c::c_long] = &[
    c::SYS_open,
    c::SYS_stat,
    c::SYS_lstat,
    c::SYS_access,
    c::SYS_readlink,
    c::SYS_unlink,
    c::SYS_mkdir,
    c::SYS_rmdir,
    c::SYS_rename,
    c::SYS_dup2,
    c::SYS_poll,
    c::SYS_select,
    c::SYS_time,
    c::SYS_getrlimit,
    c::SYS_epoll_wait,
    c::SYS_truncate,
];
#[cfg(not(target_arch = "x86_64"))]
const OLDER: &[c::c_long] = &[];

const PRCTL: [u64; 4] = [15, 16, 0x5356_4d41, 23]; // PR_SET_NAME, PR_GET_NAME, PR_SET_VMA, PR_CAPBSET_READ
const IOCTL: [u64; 3] = [0x5401, 0x5451, 0x541b]; // TCGETS, FIOCLEX, FIONREAD
const FCNTL: [u64; 7] = [0, 1, 2, 3, 4, 1030, 1034]; // F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC, F_GET_SEALS
const MAP_KIND: u64 = 0x0f;
const MAP_PRIVATE: u64 = 0x02;

/// Installs the filter. It cannot be taken off, and holds for every thread that this one starts.
pub(crate) fn apply() -> Result<(), JailError> {
    let failed = |what| {
        move |e: seccompiler::Error| {
            JailError::layer(Layer::Seccomp, what)(io::Error::other(e.to_string()))
        }
    };
    // glibc tries clone3 first, whose flags a filter cannot see; told that there is none, it takes clone.
    apply_filter(&no_clone3().map_err(failed("a filter of clone3"))?)
        .map_err(failed("seccomp(2)"))?;
    apply_filter(&allowed().map_err(failed("the filter"))?).map_err(failed("seccomp(2)"))
}

fn no_clone3() -> Result<BpfProgram, seccompiler::Error> {
    let missing = SeccompAction::Errno(c::ENOSYS.cast_unsigned());
    let rules = BTreeMap::from([(c::SYS_clone3, vec![])]);
    Ok(SeccompFilter::new(rules, SeccompAction::Allow, missing, ARCH)?.try_into()?)
}

fn allowed() -> Result<BpfProgram, seccompiler::Error> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = FREE
        .iter()
        .chain(OLDER)
        .map(|call| (*call, vec![]))
        .collect();
    let one_of = |argument: u8, values: &[u64]| -> Result<Vec<SeccompRule>, seccompiler::Error> {
        let each = values.iter().map(|v| {
            Ok(SeccompRule::new(vec![Condition::new(
                argument,
                Len::Dword,
                Op::Eq,
                *v,
            )?])?)
        });
        each.collect()
    };
    rules.insert(c::SYS_prctl, one_of(0, &PRCTL)?);
    rules.insert(c::SYS_ioctl, one_of(1, &IOCTL)?);
    rules.insert(c::SYS_fcntl, one_of(1, &FCNTL)?);
    // Memory of one's own: what is shared would outlive the task, or reach another one.
    rules.insert(
        c::SYS_mmap,
        one_where(&[(3, Op::MaskedEq(MAP_KIND), MAP_PRIVATE)])?,
    );
    // Threads, not processes, and no namespace.
    let thread = (c::CLONE_THREAD | c::CLONE_VM).cast_unsigned().into();
    let spaces =
        c::CLONE_NEWUSER | c::CLONE_NEWNS | c::CLONE_NEWPID | c::CLONE_NEWNET | c::CLONE_NEWIPC;
    let mask = thread | u64::from((spaces | c::CLONE_NEWUTS | c::CLONE_NEWCGROUP).cast_unsigned());
    rules.insert(c::SYS_clone, one_where(&[(0, Op::MaskedEq(mask), thread)])?);
    // Its own limits and its own threads only.
    rules.insert(c::SYS_prlimit64, one_where(&[(0, Op::Eq, 0)])?);
    rules.insert(c::SYS_sched_setaffinity, one_where(&[(0, Op::Eq, 0)])?);
    let own = u64::from(std::process::id());
    rules.insert(c::SYS_tgkill, one_where(&[(0, Op::Eq, own)])?);
    let refused = SeccompAction::Errno(c::EPERM.cast_unsigned());
    Ok(SeccompFilter::new(rules, refused, SeccompAction::Allow, ARCH)?.try_into()?)
}

fn one_where(conditions: &[(u8, Op, u64)]) -> Result<Vec<SeccompRule>, seccompiler::Error> {
    let all = conditions
        .iter()
        .map(|(at, op, value)| Condition::new(*at, Len::Dword, op.clone(), *value));
    Ok(vec![SeccompRule::new(all.collect::<Result<_, _>>()?)?])
}
