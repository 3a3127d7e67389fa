//! The first process of a container whose program runs under DMTCP.
//!
//! ```text
//! init ENVIRONMENT PROGRAM ARGUMENT...
//! ```
//!
//! DMTCP cannot carry a pid 1, nor a process whose parent is none. So pid 1 is this; its child,
//! the holder, is this as well; and the holder's child begins a session and becomes PROGRAM
//! (an absolute path). ENVIRONMENT is a file of `NAME=VALUE` lines that are put before
//! PROGRAM's environment: what is known only after the container was made.
//!
//! Both collect ended processes and hand every signal on. They end when their child ends, with
//! its exit code, or 128 + N when signal N ended it: pid 1 cannot end by a signal that its own
//! namespace sends. If the container has a terminal, the program's session gets it.
//!
//! DMTCP's coordinator closes a connection on which nothing comes for a second. On a node with too
//! much to do that meets `dmtcp_launch`, and SIGPIPE ends it before it has become the container's
//! program. The holder sees that by the name of the ended process, which changes when a process
//! becomes another program, and starts it again: nothing of the container's program has run.
//!
//! It runs in any image: it needs no library, not even a C library, and no loader.

#![no_std]
#![no_main]
#![no_builtins]

mod kernel;
mod memory;

use core::arch::global_asm;
use core::ptr::null;

/// Largest ENVIRONMENT, in bytes.
const LARGEST: usize = 4096;
/// Most variables that PROGRAM can get.
const VARIABLES: usize = 8192;
/// What a shell says when a program cannot be run.
const CANNOT_RUN: i32 = 126;

/// The program that is started again, as `/proc/PID/comm` has it.
const LAUNCHER: &[u8] = b"dmtcp_launch\n";
/// How often.
const AGAIN: u32 = 4;

/// All signals but those that nobody can block or wait for: SIGKILL (9) and SIGSTOP (19).
const ALL: u64 = !((1 << 8) | (1 << 18));

// The kernel starts a program with the argument count and the vectors on the stack.
#[cfg(target_arch = "x86_64")]
global_asm!(
    ".globl _start",
    "_start:",
    "xor ebp, ebp",
    "mov rdi, rsp",
    "and rsp, -16",
    "call {start}",
    start = sym start,
);
#[cfg(target_arch = "aarch64")]
global_asm!(
    ".globl _start",
    "_start:",
    "mov x29, #0",
    "mov x30, #0",
    "mov x0, sp",
    "bl {start}",
    start = sym start,
);

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    kernel::exit(CANNOT_RUN)
}

/// What PROGRAM is started with.
struct Program {
    args: *const *const u8,
    env: *const *const u8,
}

extern "C" fn start(stack: *const usize) -> ! {
    // SAFETY: the layout of a new process's stack, elf(5): argc, argv, null, envp, null.
    let (count, args) = unsafe { (*stack, stack.add(1).cast::<*const u8>()) };
    if count < 3 {
        kernel::complain(b"usage: init ENVIRONMENT PROGRAM ARGUMENT...\n");
        kernel::exit(CANNOT_RUN);
    }
    // SAFETY: argv has `count` entries and a null pointer, then comes envp.
    let (file, args, env) = unsafe { (*args.add(1), args.add(2), args.add(count + 1)) };
    // SAFETY: called once, before there is a second thread or process.
    let env = unsafe { environment(file, env) };
    let old = kernel::block(ALL);
    // As the session's leader it holds the terminal, if there is one, and gives it up: that
    // sends SIGHUP to the foreground, which is this process, and it is blocked and taken here.
    let terminal = kernel::ioctl(0, kernel::TIOCNOTTY, 0) == 0;
    let program = Program { args, env };
    let holder = kernel::fork();
    if holder == 0 {
        hold(&program, old, terminal);
    }
    care(holder, if terminal { SIGHUP } else { 0 }, || None)
}

const SIGHUP: i32 = 1;
const SIGPIPE: i32 = 13;
const SIGCONT: i32 = 18;
const SIGKILL: i32 = 9;

/// The holder: the parent of the program.
fn hold(program: &Program, mask: u64, terminal: bool) -> ! {
    kernel::die_with_parent(SIGKILL);
    // A terminal is gone with the first session that had it.
    let mut again = if terminal { 0 } else { AGAIN };
    care(launch(program, mask, terminal), 0, || {
        again = again.checked_sub(1)?;
        Some(launch(program, mask, terminal))
    })
}

/// Starts the program in a session of its own; its pid.
fn launch(program: &Program, mask: u64, terminal: bool) -> isize {
    let child = kernel::fork();
    if child != 0 {
        return child;
    }
    kernel::setsid();
    if terminal {
        kernel::ioctl(0, kernel::TIOCSCTTY, 0);
    }
    kernel::block(mask);
    // SAFETY: the vectors are those of this process, or made by `environment`.
    let error = unsafe { kernel::exec(*program.args, program.args, program.env) };
    kernel::complain(b"init: cannot run the program\n");
    kernel::exit(if error == -2 { 127 } else { CANNOT_RUN })
}

/// Collects the ended and hands signals on until `child` ends, then ends as it did. The first
/// `skip` signal, if any, and the SIGCONT that comes with it are this process's own. A launcher
/// that lost its connection is replaced by what `again` starts, if nobody has signalled it.
fn care(mut child: isize, mut skip: i32, mut again: impl FnMut() -> Option<isize>) -> ! {
    let mut signalled = false;
    loop {
        if child < 0 {
            kernel::complain(b"init: no more processes can be made\n");
            kernel::exit(CANNOT_RUN);
        }
        let signal = kernel::wait_signal(ALL);
        if signal == -kernel::EINTR || signal == -kernel::EAGAIN {
            continue;
        }
        let signal = signal as i32;
        if signal != kernel::SIGCHLD {
            if skip != 0 && signal == skip {
                skip = if skip == SIGHUP { SIGCONT } else { 0 };
            } else {
                signalled = true;
                kernel::kill(child, signal);
            }
            continue;
        }
        loop {
            let ended = kernel::ended();
            if ended <= 0 {
                break;
            }
            // Only as long as it is not collected.
            let launching = ended == child && !signalled && is_launcher(child);
            let status = kernel::collect(ended);
            if ended != child {
                continue;
            }
            let lost = launching && status & 0x7f == SIGPIPE;
            child = match lost.then(&mut again).flatten() {
                Some(next) => next,
                None => kernel::exit(code(status)),
            };
        }
    }
}

/// Whether a process is, or ended as, [`LAUNCHER`]. Not if that cannot be seen.
fn is_launcher(pid: isize) -> bool {
    const BEFORE: &[u8] = b"/proc/";
    const AFTER: &[u8] = b"/comm\0";
    let mut digits = [0; 20];
    let mut first = digits.len();
    let mut rest = pid.unsigned_abs();
    while first > 0 {
        first -= 1;
        digits[first] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    let mut path = [0u8; 40];
    let parts = BEFORE.iter().chain(&digits[first..]).chain(AFTER);
    for (to, from) in path.iter_mut().zip(parts) {
        *to = *from;
    }
    let mut name = [0u8; 32];
    // SAFETY: the path ends with a zero byte; all three parts are shorter than it.
    let length = unsafe { kernel::read_file(path.as_ptr(), &mut name) };
    length == LAUNCHER.len() as isize && name.iter().zip(LAUNCHER).all(|(a, b)| a == b)
}

/// The exit code for a status of wait(2).
fn code(status: i32) -> i32 {
    match status & 0x7f {
        0 => (status >> 8) & 0xff,
        signal => 128 + signal,
    }
}

/// The variables of `file`, followed by those of `env`. A file that is not there adds none.
///
/// # Safety
///
/// To be called once. `file` is a C string, `env` a list of such that ends with a null pointer.
unsafe fn environment(file: *const u8, env: *const *const u8) -> *const *const u8 {
    static mut TEXT: [u8; LARGEST] = [0; LARGEST];
    static mut LIST: [*const u8; VARIABLES] = [null(); VARIABLES];
    // SAFETY: nobody else has these, as this is called once.
    let (text, list) = unsafe { (&mut *&raw mut TEXT, &mut *&raw mut LIST) };
    let mut count = 0;
    // The last byte stays zero. SAFETY: a C string, as the caller vouches.
    let length = unsafe { kernel::read_file(file, &mut text[..LARGEST - 1]) };
    let mut begin = true;
    for index in 0..length.max(0) as usize {
        if text[index] == b'\n' {
            text[index] = 0;
            begin = true;
        } else if begin && count < VARIABLES - 1 {
            list[count] = &raw const text[index];
            count += 1;
            begin = false;
        }
    }
    let mut index = 0;
    while count < VARIABLES - 1 {
        // SAFETY: the list has not ended yet.
        let variable = unsafe { *env.add(index) };
        if variable.is_null() {
            break;
        }
        list[count] = variable;
        count += 1;
        index += 1;
    }
    list.as_ptr()
}
