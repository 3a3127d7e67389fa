//! System calls, made with the instruction itself: DMTCP interposes on the C library's functions,
//! `syscall` among them. A result is a value or a negative errno.

use core::ffi::{c_int, c_void};
use std::ffi::CStr;

/// `-errno` of a call that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Errno(pub(crate) c_int);

pub(crate) type Result<T> = core::result::Result<T, Errno>;

/// # Safety
///
/// The arguments must be valid for the system call `number` (its manual page).
#[cfg(target_arch = "x86_64")]
pub(crate) unsafe fn call(number: i64, arguments: [usize; 6]) -> isize {
    let result: isize;
    // SAFETY: the Linux convention of x86-64 (syscall(2)); rcx and r11 are overwritten by the
    // instruction. The caller answers for the arguments.
    unsafe {
        core::arch::asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") arguments[0],
            in("rsi") arguments[1],
            in("rdx") arguments[2],
            in("r10") arguments[3],
            in("r8") arguments[4],
            in("r9") arguments[5],
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result
}

/// # Safety
///
/// The arguments must be valid for the system call `number` (its manual page).
#[cfg(target_arch = "aarch64")]
pub(crate) unsafe fn call(number: i64, arguments: [usize; 6]) -> isize {
    let result: isize;
    // SAFETY: the Linux convention of arm64 (syscall(2)). The caller answers for the arguments.
    unsafe {
        core::arch::asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") arguments[0] as isize => result,
            in("x1") arguments[1],
            in("x2") arguments[2],
            in("x3") arguments[3],
            in("x4") arguments[4],
            in("x5") arguments[5],
            options(nostack),
        );
    }
    result
}

/// A result as value or errno.
pub(crate) fn check(result: isize) -> Result<usize> {
    usize::try_from(result).map_err(|_| Errno(-result as c_int))
}

/// As [`call`], for up to three arguments.
///
/// # Safety
///
/// As [`call`].
pub(crate) unsafe fn call3(number: i64, a: usize, b: usize, c: usize) -> Result<usize> {
    // SAFETY: passed on to the caller.
    check(unsafe { call(number, [a, b, c, 0, 0, 0]) })
}

/// A descriptor of our own, closed when it is dropped.
#[derive(Debug)]
pub(crate) struct Fd(c_int);

impl Fd {
    pub(crate) fn from_raw(fd: usize) -> Fd {
        Fd(fd as c_int)
    }

    pub(crate) fn raw(&self) -> c_int {
        self.0
    }

    /// Give the number away; it is not closed.
    pub(crate) fn into_raw(self) -> c_int {
        let fd = self.0;
        core::mem::forget(self);
        fd
    }
}

impl Drop for Fd {
    fn drop(&mut self) {
        close(self.0);
    }
}

pub(crate) fn close(fd: c_int) {
    // SAFETY: close takes a number; callers own it.
    let _ = unsafe { call3(libc::SYS_close, fd as usize, 0, 0) };
}

pub(crate) fn socket(domain: c_int, kind: c_int, protocol: c_int) -> Result<Fd> {
    let (domain, kind, protocol) = (domain as usize, kind as usize, protocol as usize);
    // SAFETY: socket takes numbers.
    unsafe { call3(libc::SYS_socket, domain, kind, protocol) }.map(Fd::from_raw)
}

pub(crate) fn open(path: &CStr, flags: c_int) -> Result<Fd> {
    let at = libc::AT_FDCWD as usize;
    // SAFETY: the path is a live string with its terminating zero; no mode is needed.
    unsafe { call3(libc::SYS_openat, at, path.as_ptr() as usize, flags as usize) }.map(Fd::from_raw)
}

pub(crate) fn read(fd: &Fd, buffer: &mut [u8]) -> Result<usize> {
    let (pointer, length) = (buffer.as_mut_ptr() as usize, buffer.len());
    // SAFETY: pointer and length are those of the borrowed buffer.
    unsafe { call3(libc::SYS_read, fd.0 as usize, pointer, length) }
}

/// Entries of a directory, as `linux_dirent64`; 0 at its end.
pub(crate) fn getdents(fd: &Fd, buffer: &mut [u8]) -> Result<usize> {
    let (pointer, length) = (buffer.as_mut_ptr() as usize, buffer.len());
    // SAFETY: pointer and length are those of the borrowed buffer.
    unsafe { call3(libc::SYS_getdents64, fd.0 as usize, pointer, length) }
}

pub(crate) fn readlink<'a>(path: &CStr, buffer: &'a mut [u8]) -> Result<&'a [u8]> {
    let at = libc::AT_FDCWD as usize;
    let (pointer, length) = (buffer.as_mut_ptr() as usize, buffer.len());
    let arguments = [at, path.as_ptr() as usize, pointer, length, 0, 0];
    // SAFETY: the path ends with its zero; pointer and length are those of the borrowed buffer.
    let got = check(unsafe { call(libc::SYS_readlinkat, arguments) })?;
    Ok(buffer.get(..got).unwrap_or_default())
}

pub(crate) fn fcntl(fd: c_int, command: c_int, argument: c_int) -> Result<c_int> {
    let (fd, command) = (fd as usize, command as usize);
    // SAFETY: only commands with a number as argument are used.
    unsafe { call3(libc::SYS_fcntl, fd, command, argument as usize) }.map(|value| value as c_int)
}

/// Make `to` a duplicate of `from`, closing what `to` was.
pub(crate) fn dup3(from: c_int, to: c_int, flags: c_int) -> Result<()> {
    // SAFETY: dup3 takes numbers.
    unsafe { call3(libc::SYS_dup3, from as usize, to as usize, flags as usize) }.map(drop)
}

/// A socket option whose value has the size of `T`.
pub(crate) fn option<T: Copy + Default>(fd: c_int, level: c_int, name: c_int) -> Result<T> {
    let mut value = T::default();
    let mut length = size_of::<T>() as libc::socklen_t;
    let arguments = [
        fd as usize,
        level as usize,
        name as usize,
        (&raw mut value) as usize,
        (&raw mut length) as usize,
        0,
    ];
    // SAFETY: the pointers are to live values and the length is that of the value, which is plain
    // data of which any prefix may be written.
    check(unsafe { call(libc::SYS_getsockopt, arguments) })?;
    Ok(value)
}

/// Set a socket option that is a number.
pub(crate) fn set_option(fd: c_int, level: c_int, name: c_int, value: c_int) -> Result<()> {
    let arguments = [
        fd as usize,
        level as usize,
        name as usize,
        (&raw const value) as usize,
        size_of::<c_int>(),
        0,
    ];
    // SAFETY: the pointer is to a live value of the length that is given.
    check(unsafe { call(libc::SYS_setsockopt, arguments) }).map(drop)
}

/// Inode number of what `fd` refers to; 0 where there is none.
pub(crate) fn inode(fd: c_int) -> u64 {
    let mut stat = core::mem::MaybeUninit::<libc::stat>::zeroed();
    let pointer = stat.as_mut_ptr() as usize;
    // SAFETY: the pointer is to a live buffer of the right size.
    match unsafe { call3(libc::SYS_fstat, fd as usize, pointer, 0) } {
        // SAFETY: all zeroes are a valid stat, and the kernel has filled it in.
        Ok(_) => unsafe { stat.assume_init() }.st_ino,
        Err(_) => 0,
    }
}

/// This thread's number, gettid(2).
pub(crate) fn thread() -> c_int {
    // SAFETY: no arguments.
    unsafe { call(libc::SYS_gettid, [0; 6]) as c_int }
}

pub(crate) fn sleep(milliseconds: u32) {
    let time = libc::timespec {
        tv_sec: libc::time_t::from(milliseconds / 1000),
        tv_nsec: libc::c_long::from(milliseconds % 1000) * 1_000_000,
    };
    // SAFETY: the pointer is to a live timespec; no remainder is asked for.
    let _ = unsafe { call3(libc::SYS_nanosleep, (&raw const time) as usize, 0, 0) };
}

pub(crate) fn futex_wait(word: &core::sync::atomic::AtomicU32, value: u32) {
    let operation = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
    let arguments = [
        word.as_ptr() as usize,
        operation as usize,
        value as usize,
        0,
        0,
        0,
    ];
    // SAFETY: the word is borrowed; without a time-out the other arguments are not used.
    let _ = unsafe { call(libc::SYS_futex, arguments) };
}

pub(crate) fn futex_wake_all(word: &core::sync::atomic::AtomicU32) {
    let operation = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
    let arguments = [
        word.as_ptr() as usize,
        operation as usize,
        i32::MAX as usize,
        0,
        0,
        0,
    ];
    // SAFETY: the word is borrowed; the other arguments are not used.
    let _ = unsafe { call(libc::SYS_futex, arguments) };
}

/// Fresh zeroed memory of the process; null if there is none.
pub(crate) fn map(length: usize) -> *mut u8 {
    let protection = (libc::PROT_READ | libc::PROT_WRITE) as usize;
    let flags = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as usize;
    let arguments = [0, length, protection, flags, usize::MAX, 0];
    // SAFETY: a new anonymous mapping touches nothing that exists.
    match check(unsafe { call(libc::SYS_mmap, arguments) }) {
        Ok(address) => core::ptr::with_exposed_provenance_mut(address),
        Err(_) => core::ptr::null_mut(),
    }
}

/// A line on standard error, for a person who wonders why nothing goes on.
pub(crate) fn note(text: &str) {
    let (pointer, length) = (text.as_ptr() as usize, text.len());
    // SAFETY: pointer and length are those of the borrowed text.
    let _ = unsafe { call3(libc::SYS_write, 2, pointer, length) };
}

/// An argument that the kernel reads or writes through.
pub(crate) fn address<T>(pointer: *const T) -> usize {
    pointer.cast::<c_void>() as usize
}
