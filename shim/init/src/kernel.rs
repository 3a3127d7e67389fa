//! The few system calls that are needed, numbers and arguments as in syscalls(2).

use core::arch::asm;

/// Interrupted by a signal.
pub const EINTR: isize = 4;
/// Would block, or a time-out.
pub const EAGAIN: isize = 11;
/// `SIGCHLD`.
pub const SIGCHLD: i32 = 17;
/// `ioctl`: make a terminal the controlling one of this session.
pub const TIOCSCTTY: usize = 0x540E;
/// `ioctl`: give the controlling terminal up.
pub const TIOCNOTTY: usize = 0x5422;

/// `waitid`: do not block, look at the ended, leave them.
const WNOHANG: usize = 1;
const WEXITED: usize = 4;
const WNOWAIT: usize = 0x0100_0000;
const SIG_SETMASK: usize = 2;
/// Bytes of the kernel's signal set.
const SIGSET: usize = 8;

#[cfg(target_arch = "x86_64")]
mod number {
    pub const READ: usize = 0;
    pub const WRITE: usize = 1;
    pub const OPENAT: usize = 257;
    pub const CLOSE: usize = 3;
    pub const IOCTL: usize = 16;
    pub const SIGPROCMASK: usize = 14;
    pub const SIGTIMEDWAIT: usize = 128;
    pub const CLONE: usize = 56;
    pub const EXECVE: usize = 59;
    pub const EXIT_GROUP: usize = 231;
    pub const WAIT4: usize = 61;
    pub const WAITID: usize = 247;
    pub const KILL: usize = 62;
    pub const SETSID: usize = 112;
    pub const PRCTL: usize = 157;
}

#[cfg(target_arch = "aarch64")]
mod number {
    pub const READ: usize = 63;
    pub const WRITE: usize = 64;
    pub const OPENAT: usize = 56;
    pub const CLOSE: usize = 57;
    pub const IOCTL: usize = 29;
    pub const SIGPROCMASK: usize = 135;
    pub const SIGTIMEDWAIT: usize = 137;
    pub const CLONE: usize = 220;
    pub const EXECVE: usize = 221;
    pub const EXIT_GROUP: usize = 94;
    pub const WAIT4: usize = 260;
    pub const WAITID: usize = 95;
    pub const KILL: usize = 129;
    pub const SETSID: usize = 157;
    pub const PRCTL: usize = 167;
}

/// A system call; a negative result is an error number.
///
/// # Safety
///
/// As the call itself: pointers must be valid for what the kernel does with them.
#[cfg(target_arch = "x86_64")]
unsafe fn call(number: usize, args: [usize; 5]) -> isize {
    let result: isize;
    // SAFETY: the registers are those of the system call convention, syscall(2); the caller
    // vouches for the arguments.
    unsafe {
        asm!("syscall", inlateout("rax") number as isize => result,
            in("rdi") args[0], in("rsi") args[1], in("rdx") args[2], in("r10") args[3],
            in("r8") args[4], lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result
}

/// A system call; a negative result is an error number.
///
/// # Safety
///
/// As the call itself: pointers must be valid for what the kernel does with them.
#[cfg(target_arch = "aarch64")]
unsafe fn call(number: usize, args: [usize; 5]) -> isize {
    let result: isize;
    // SAFETY: the registers are those of the system call convention, syscall(2); the caller
    // vouches for the arguments.
    unsafe {
        asm!("svc 0", in("x8") number, inlateout("x0") args[0] as isize => result,
            in("x1") args[1], in("x2") args[2], in("x3") args[3], in("x4") args[4],
            options(nostack));
    }
    result
}

/// Ends the process.
pub fn exit(code: i32) -> ! {
    loop {
        // SAFETY: no pointers.
        unsafe { call(number::EXIT_GROUP, [code as usize, 0, 0, 0, 0]) };
    }
}

/// Writes to standard error; nothing is to be done when that fails.
pub fn complain(text: &[u8]) {
    // SAFETY: the slice is valid for its length.
    unsafe { call(number::WRITE, [2, text.as_ptr() as usize, text.len(), 0, 0]) };
}

/// Reads a file into `buffer`; the number of bytes, or a negative error number. One that does
/// not fit is cut off.
///
/// # Safety
///
/// `path` ends with a zero byte.
pub unsafe fn read_file(path: *const u8, buffer: &mut [u8]) -> isize {
    const AT_FDCWD: usize = -100isize as usize;
    const O_CLOEXEC: usize = 0o2_000_000;
    // SAFETY: the path is a C string, as the caller vouches.
    let file = unsafe { call(number::OPENAT, [AT_FDCWD, path as usize, O_CLOEXEC, 0, 0]) };
    if file < 0 {
        return file;
    }
    let mut length = 0;
    let result = loop {
        let rest = &mut buffer[length..];
        let args = [file as usize, rest.as_mut_ptr() as usize, rest.len(), 0, 0];
        // SAFETY: the rest of the buffer is valid for its length.
        match unsafe { call(number::READ, args) } {
            0 => break length as isize,
            count if count > 0 => length += count as usize,
            error if error == -EINTR => {}
            error => break error,
        }
    };
    // SAFETY: no pointers.
    unsafe { call(number::CLOSE, [file as usize, 0, 0, 0, 0]) };
    result
}

/// `ioctl` with an integer.
pub fn ioctl(file: usize, request: usize, argument: usize) -> isize {
    // SAFETY: the two requests that are used here take an integer.
    unsafe { call(number::IOCTL, [file, request, argument, 0, 0]) }
}

/// Sets the mask of blocked signals and returns the old one.
pub fn block(mask: u64) -> u64 {
    let mut old = 0u64;
    // SAFETY: both point to a signal set of the size given.
    unsafe {
        call(
            number::SIGPROCMASK,
            [
                SIG_SETMASK,
                &raw const mask as usize,
                &raw mut old as usize,
                SIGSET,
                0,
            ],
        )
    };
    old
}

/// Waits for a signal out of `mask`, which must be blocked; a negative error number otherwise.
pub fn wait_signal(mask: u64) -> isize {
    // SAFETY: the mask has the size given; no information and no time-out are asked for.
    unsafe {
        call(
            number::SIGTIMEDWAIT,
            [&raw const mask as usize, 0, 0, SIGSET, 0],
        )
    }
}

/// `fork`.
pub fn fork() -> isize {
    // SAFETY: without CLONE_VM the child has its own copy of everything, stack included.
    unsafe { call(number::CLONE, [SIGCHLD as usize, 0, 0, 0, 0]) }
}

/// A child that has ended and was not collected; 0: none, or a negative error number.
pub fn ended() -> isize {
    /// All children.
    const P_ALL: usize = 0;
    /// The kernel's `siginfo_t`, 128 bytes, in which `si_pid` follows four integers.
    #[repr(C, align(8))]
    struct Info([i32; 32]);
    let mut info = Info([0; 32]);
    let options = WEXITED | WNOHANG | WNOWAIT;
    // SAFETY: the kernel writes no more than the structure's size.
    let result = unsafe {
        call(
            number::WAITID,
            [P_ALL, 0, &raw mut info as usize, options, 0],
        )
    };
    if result < 0 {
        result
    } else {
        info.0[4] as isize
    }
}

/// Collects a child that has ended: its status.
pub fn collect(child: isize) -> i32 {
    let mut status = 0i32;
    // SAFETY: the status is written to a valid integer.
    unsafe {
        call(
            number::WAIT4,
            [child as usize, &raw mut status as usize, 0, 0, 0],
        )
    };
    status
}

/// Sends a signal.
pub fn kill(pid: isize, signal: i32) {
    // SAFETY: no pointers.
    unsafe { call(number::KILL, [pid as usize, signal as usize, 0, 0, 0]) };
}

/// Begins a session.
pub fn setsid() {
    // SAFETY: no pointers.
    unsafe { call(number::SETSID, [0; 5]) };
}

/// Has the kernel send `signal` to this process when its parent ends.
pub fn die_with_parent(signal: i32) {
    const PR_SET_PDEATHSIG: usize = 1;
    // SAFETY: no pointers.
    unsafe { call(number::PRCTL, [PR_SET_PDEATHSIG, signal as usize, 0, 0, 0]) };
}

/// Becomes another program; returns an error number when that fails.
///
/// # Safety
///
/// All are C strings, and the two lists end with a null pointer.
pub unsafe fn exec(path: *const u8, args: *const *const u8, env: *const *const u8) -> isize {
    // SAFETY: as the caller vouches.
    unsafe {
        call(
            number::EXECVE,
            [path as usize, args as usize, env as usize, 0, 0],
        )
    }
}
