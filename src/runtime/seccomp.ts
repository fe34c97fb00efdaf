/**
 * The system calls that a container may make: an allow list in the spirit of Docker's default profile, written for
 * the one capability set that Orca gives (no SYS_ADMIN, SYS_PTRACE, SYS_MODULE, …). Everything else fails with EPERM.
 *
 * Names are libseccomp's; a name that an architecture or an older libseccomp does not have is skipped by runc.
 */
import type { Seccomp, SeccompRule } from './spec-types.js';

const ALLOWED = `
accept accept4 bind connect getpeername getsockname getsockopt listen recv recvfrom recvmmsg recvmmsg_time64 recvmsg
send sendmmsg sendmsg sendto setsockopt shutdown socketcall socketpair

access chdir chmod chown chown32 close close_range copy_file_range creat dup dup2 dup3 faccessat faccessat2 fadvise64
fadvise64_64 fallocate fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr
flistxattr flock fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futimesat
getcwd getdents getdents64 getxattr getxattrat ioctl lchown lchown32 lgetxattr link linkat listxattr listxattrat
llistxattr _llseek lremovexattr lseek lsetxattr lstat lstat64 mkdir mkdirat mknod mknodat name_to_handle_at newfstatat
open openat openat2 pipe pipe2 pread64 preadv preadv2 pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv
removexattr removexattrat rename renameat renameat2 rmdir sendfile sendfile64 setxattr setxattrat splice stat stat64
statfs statfs64 statmount statx symlink symlinkat sync sync_file_range syncfs tee truncate truncate64 umask unlink
unlinkat utime utimensat utimensat_time64 utimes vmsplice write writev listmount chroot cachestat

epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2
fanotify_mark inotify_add_watch inotify_init inotify_init1 inotify_rm_watch _newselect poll ppoll ppoll_time64 pselect6
pselect6_time64 select signalfd signalfd4 io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup
io_submit

brk madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mlock mlock2 mlockall mmap mmap2 mprotect
mremap mseal msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect remap_file_pages

alarm clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep
clock_nanosleep_time64 adjtimex getitimer gettimeofday nanosleep setitimer time timer_create timer_delete
timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime
timerfd_gettime64 timerfd_settime timerfd_settime64 times

ipc mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink
msgctl msgget msgrcv msgsnd semctl semget semop semtimedop semtimedop_time64 shmat shmctl shmdt shmget

futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake get_robust_list get_thread_area rseq set_robust_list
set_thread_area set_tid_address

capget capset getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getresgid getresgid32 getresuid
getresuid32 getuid getuid32 setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setregid
setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setuid setuid32

execve execveat exit exit_group fork getcpu getpgid getpgrp getpid getppid getpriority getrandom getrlimit getrusage
getsid gettid ioprio_get ioprio_set kill landlock_add_rule landlock_create_ruleset landlock_restrict_self
lsm_get_self_attr lsm_list_modules lsm_set_self_attr pause pidfd_open pidfd_send_signal prctl prlimit64 process_mrelease
process_vm_readv process_vm_writev ptrace restart_syscall rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo
rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_get_priority_max
sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval
sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield seccomp
setpgid setpriority setrlimit setsid sigaltstack sigprocmask sigreturn sysinfo tgkill tkill ugetrlimit uname uretprobe
vfork wait4 waitid waitpid
`;

const ARCHITECTURES: Readonly<Record<string, { native: string; compatible: string[]; only: string[] }>> = {
  x64: {
    native: 'SCMP_ARCH_X86_64',
    compatible: ['SCMP_ARCH_X86', 'SCMP_ARCH_X32'],
    only: ['arch_prctl', 'modify_ldt'],
  },
  arm64: {
    native: 'SCMP_ARCH_AARCH64',
    compatible: ['SCMP_ARCH_ARM'],
    only: [
      'arm_fadvise64_64',
      'arm_sync_file_range',
      'sync_file_range2',
      'breakpoint',
      'cacheflush',
      'set_tls',
    ],
  },
};

const EPERM = 1;
const ENOSYS = 38;

/** AF_VSOCK reaches the hypervisor and is not confined by a network namespace. */
const AF_VSOCK = 40;

/** CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET: no namespace may be made. */
const CLONE_NEW_MASK = 0x7e020000;

/** personality(2): PER_LINUX, PER_LINUX32, UNAME26 with either, and the query 0xffffffff. */
const PERSONALITIES = [0x0, 0x8, 0x20000, 0x20008, 0xffffffff];

/** undefined for an architecture that has no profile here. `architecture` is as `process.arch`. */
export function seccompProfile(architecture: string): Seccomp | undefined {
  const target = ARCHITECTURES[architecture];
  if (target === undefined) return undefined;
  const names = [...ALLOWED.trim().split(/\s+/), ...target.only];
  return {
    defaultAction: 'SCMP_ACT_ERRNO',
    defaultErrnoRet: EPERM,
    architectures: [target.native, ...target.compatible],
    syscalls: [
      { names, action: 'SCMP_ACT_ALLOW' },
      allowIf('socket', { index: 0, value: AF_VSOCK, op: 'SCMP_CMP_NE' }),
      ...PERSONALITIES.map((value) => allowIf('personality', { index: 0, value, op: 'SCMP_CMP_EQ' })),
      // The flags of clone(2) are its first argument on both architectures.
      allowIf('clone', { index: 0, value: CLONE_NEW_MASK, valueTwo: 0, op: 'SCMP_CMP_MASKED_EQ' }),
      // The flags of clone3(2) lie in memory, where seccomp cannot look: ENOSYS makes libc fall back to clone.
      { names: ['clone3'], action: 'SCMP_ACT_ERRNO', errnoRet: ENOSYS },
    ],
  };
}

function allowIf(name: string, argument: NonNullable<SeccompRule['args']>[number]): SeccompRule {
  return { names: [name], action: 'SCMP_ACT_ALLOW', args: [argument] };
}
