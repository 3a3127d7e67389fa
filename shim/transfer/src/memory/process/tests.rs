use super::*;
use crate::memory::tests::Mapping;

#[test]
fn the_pid_is_the_innermost() {
    assert_eq!(inner_pid("Name:\tx\nNSpid:\t4711\t12\t3\n"), Some(3));
    assert_eq!(inner_pid("Name:\tx\n"), None);
}

/// Three pages, of which the middle one was never touched.
fn pages() -> (Mapping, u64) {
    let mut mapping = Mapping::new(3);
    mapping.bytes()[0] = 1;
    mapping.bytes()[2 * PAGE] = 3;
    let at = mapping.bytes().as_ptr() as u64;
    (mapping, at)
}

#[test]
fn both_ways_to_list_pages_agree() {
    let (_mapping, start) = pages();
    let tables = Tables {
        pagemap: File::open("/proc/self/pagemap").unwrap(),
    };
    let page = PAGE as u64;
    let end = start + 3 * page;
    let wanted = vec![(start, start + page), (start + 2 * page, end)];
    assert_eq!(tables.entries(start, end), (wanted.clone(), end));
    match scan(&tables.pagemap, start, end) {
        Ok(found) => assert_eq!(found, (wanted, end)),
        // Before Linux 6.7 there is one way.
        Err(errno) => assert_eq!(errno, Errno::ENOTTY),
    }
}

#[test]
fn memory_is_read_by_address() {
    let (_mapping, start) = pages();
    let process = MemoryProcess::of_this_process(Form::Criu);
    let mut found = Vec::new();
    process
        .read(|page| {
            assert_eq!(page.content.len(), PAGE);
            if (start..start + 3 * PAGE as u64).contains(&page.address) {
                found.push((page.address - start, page.content[0]));
            }
            Ok(())
        })
        .unwrap();
    assert_eq!(found, [(0, 1), (2 * PAGE as u64, 3)]);
}

#[test]
fn a_process_in_our_own_pid_namespace_is_no_container() {
    let pid = std::process::id() as i32;
    assert!(
        MemoryProcess::of_container("x", pid, Form::Criu)
            .unwrap()
            .is_empty()
    );
}
