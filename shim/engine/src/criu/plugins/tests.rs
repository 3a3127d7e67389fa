//! The library is loaded as CRIU does it, and asked what CRIU asks.

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;

use super::*;
use crate::StandardRunner;

/// `cr_plugin_desc_t` of CRIU's criu-plugin.h, as far as the two hooks go.
#[repr(C)]
struct Descriptor {
    name: *const c_char,
    init: Option<extern "C" fn(c_int) -> c_int>,
    exit: Option<extern "C" fn(c_int, c_int)>,
    version: c_uint,
    max_hooks: c_uint,
    dump_unix_sk: extern "C" fn(c_int, c_int) -> c_int,
    restore_unix_sk: extern "C" fn(c_int) -> c_int,
}

fn load(path: &Path) -> &'static Descriptor {
    let path = CString::new(path.as_os_str().as_bytes()).unwrap();
    // SAFETY: the library has no constructors; it is never unloaded.
    let library = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW) };
    if library.is_null() {
        // SAFETY: after an error there is a message.
        let message = unsafe { CStr::from_ptr(libc::dlerror()) };
        panic!("{}", message.to_string_lossy());
    }
    // SAFETY: the handle is that of a loaded library.
    let found: *mut c_void = unsafe { libc::dlsym(library, c"CR_PLUGIN_DESC".as_ptr()) };
    assert!(!found.is_null());
    // SAFETY: that is its type, and it lives as long as the library.
    unsafe { &*found.cast::<Descriptor>() }
}

#[tokio::test]
async fn the_plugin_answers_for_what_it_is_told() {
    let bundle = tempfile::tempdir().unwrap();
    let plugins = Plugins::make(&StandardRunner, bundle.path(), true)
        .await
        .unwrap();
    let plugin = load(&plugins.directory().unwrap().join("mycedrive.so"));
    assert_eq!((plugin.version, plugin.max_hooks), (0x200, 2));
    assert!(!plugin.name.is_null() && plugin.exit.is_none());
    let init = plugin.init.unwrap();
    let answer = |inode: u32| (plugin.dump_unix_sk)(3, inode as c_int);
    // Nothing to wait for.
    assert_eq!(init(DUMP), 0);
    assert_eq!(answer(7), -libc::ENOTSUP);
    // SAFETY: no other test of this program reads or changes the environment through the C library.
    unsafe { env::set_var(INODES, "7,4294967295,80") };
    for inode in [7, u32::MAX, 80] {
        assert_eq!(answer(inode), 0, "{inode}");
    }
    for inode in [0, 8, 70, 74] {
        assert_eq!(answer(inode), -libc::ENOTSUP, "{inode}");
    }
    gate(init);
    assert_eq!((answer(12), answer(13), answer(7)), (0, 0, -libc::ENOTSUP));
    let directory = plugins.directory().unwrap().to_owned();
    drop(plugins);
    assert!(!directory.exists());
}

#[test]
fn the_nodes_own_plugins_are_loaded_as_well() {
    let node = tempfile::tempdir().unwrap();
    fs::write(node.path().join("cuda_plugin.so"), "x").unwrap();
    fs::write(node.path().join("README"), "x").unwrap();
    let bundle = tempfile::tempdir().unwrap();
    let path = bundle.path().join("criu-plugins");
    for _ in 0..2 {
        // The second time with what a shim that was killed left.
        let directory = fill(&path, node.path()).unwrap();
        let mut names: Vec<_> = fs::read_dir(&path)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["cuda_plugin.so", "mycedrive.so"]);
        assert_eq!(fs::read(path.join("cuda_plugin.so")).unwrap(), b"x");
        assert_eq!(fs::read(path.join("mycedrive.so")).unwrap(), LIBRARY);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        std::mem::forget(directory);
    }
}

#[tokio::test]
async fn nothing_is_made_for_nobody() {
    let bundle = tempfile::tempdir().unwrap();
    let plugins = Plugins::make(&StandardRunner, bundle.path(), false)
        .await
        .unwrap();
    assert!(plugins.directory().is_none());
    assert_eq!(fs::read_dir(bundle.path()).unwrap().count(), 0);
}

#[test]
fn criu_says_where_its_plugins_are() {
    let help = "  -J|--join-ns NS:{PID|NS_FILE}\n\
                \x20 -L|--libdir           path to a plugin directory (by default /usr/lib64/criu/)\n";
    assert_eq!(
        default_directory(help).unwrap(),
        Path::new("/usr/lib64/criu/")
    );
    assert_eq!(default_directory("Usage"), None);
}

/// Nothing that an old node lacks: no version of a C library, and no other library.
#[test]
fn the_plugin_asks_for_no_version() {
    use object::{Object, ObjectSymbol};
    // Aligned, as the parser wants it.
    let library = LIBRARY.to_vec();
    let file = object::File::parse(&*library).unwrap();
    let names: Vec<_> = file
        .dynamic_symbols()
        .filter(ObjectSymbol::is_undefined)
        .map(|symbol| symbol.name().unwrap_or_default().to_owned())
        .collect();
    assert!(names.iter().any(|name| name == "getenv"), "{names:?}");
    let text = String::from_utf8_lossy(LIBRARY);
    assert!(!text.contains("GLIBC_") && !text.contains("libc.so"));
}

/// `CR_PLUGIN_STAGE__DUMP` and `CR_PLUGIN_STAGE__RESTORE`.
const DUMP: c_int = 0;
const RESTORE: c_int = 2;

/// A gate that is closed for good, and one that is opened.
fn gate(init: extern "C" fn(c_int) -> c_int) {
    let mut command = Command::new("true");
    let pipes = || (io::pipe().unwrap(), io::pipe().unwrap());
    let at = |command: &mut Command, gate: &io::PipeReader, at_gate: &io::PipeWriter| {
        wait_at(command, gate, at_gate);
        for (name, value) in command.get_envs() {
            // SAFETY: as above.
            unsafe { env::set_var(name, value.unwrap()) };
        }
    };
    let ((gate, open), (mut arrived, arriving)) = pipes();
    at(&mut command, &gate, &arriving);
    assert_eq!(init(RESTORE), 0);
    drop(open);
    assert_eq!(init(DUMP), -1);
    let mut told = [0];
    io::Read::read_exact(&mut arrived, &mut told).unwrap();

    let ((gate, mut open), (mut arrived, arriving)) = pipes();
    at(&mut command, &gate, &arriving);
    let waiting = std::thread::spawn(move || init(DUMP));
    io::Read::read_exact(&mut arrived, &mut told).unwrap();
    assert!(!waiting.is_finished());
    // In two pieces.
    open.write_all(b"12,").unwrap();
    std::thread::sleep(Duration::from_millis(50));
    assert!(!waiting.is_finished());
    open.write_all(b"13\n").unwrap();
    assert_eq!(waiting.join().unwrap(), 0);
    drop(gate);
    // The shim is gone.
    assert_eq!(init(DUMP), -1);
}
