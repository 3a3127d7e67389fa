use super::*;

/// Three pages, with the fields that CRIU 4.2 sets.
const THREE_PAGES: &[u8] = &[
    0x19, 0x43, 0x56, 0x54, 0x25, 0x40, 0x08, 0x56, // magic
    2, 0, 0, 0, 0x08, 1, // head: pages_id 1
    11, 0, 0, 0, 0x08, 0x80, 0x80, 0x80, 0x02, 0x10, 3, 0x20, 4,
    0x28, // vaddr, 3 pages, PRESENT
    3,
];

#[test]
fn a_file_is_read_and_written() {
    let mut pagemap = Pagemap::new(1);
    for page in 0..3 {
        pagemap.add(0x40_0000 + page * 4096, PRESENT);
    }
    assert_eq!(pagemap.encode(), THREE_PAGES);
    assert_eq!(Pagemap::decode(THREE_PAGES).unwrap(), pagemap);
}

#[test]
fn ranges_end_where_a_page_or_the_kind_differs() {
    let mut pagemap = Pagemap::new(9);
    pagemap.add(0x1000, PRESENT);
    pagemap.add(0x2000, PARENT);
    pagemap.add(0x3000, PARENT);
    pagemap.add(0x5000, PARENT);
    let ranges: Vec<_> = pagemap
        .ranges
        .iter()
        .map(|r| (r.address, r.pages, r.flags))
        .collect();
    assert_eq!(
        ranges,
        [
            (0x1000, 1, PRESENT),
            (0x2000, 2, PARENT),
            (0x5000, 1, PARENT)
        ]
    );
    assert_eq!(Pagemap::decode(&pagemap.encode()).unwrap(), pagemap);
}

#[test]
fn entries_of_older_versions_are_read() {
    let mut file = THREE_PAGES[..14].to_vec();
    file.extend([7, 0, 0, 0, 0x08, 0x80, 0x20, 0x10, 2, 0x18, 1]);
    let pagemap = Pagemap::decode(&file).unwrap();
    let range = Range {
        address: 0x1000,
        pages: 2,
        flags: PARENT,
    };
    assert_eq!(pagemap.ranges, [range]);
}

#[test]
fn what_is_cut_or_unknown_is_an_error() {
    let mut pagemap = Pagemap::new(1);
    pagemap.add(u64::MAX - 4095, PRESENT);
    let file = pagemap.encode();
    assert!(Pagemap::decode(&file).is_some());
    for cut in (0..file.len()).filter(|cut| *cut != 14) {
        assert!(Pagemap::decode(&file[..cut]).is_none(), "{cut}");
    }
    let mut unknown = THREE_PAGES[..14].to_vec();
    unknown.extend([6, 0, 0, 0, 0x08, 1, 0x10, 1, 0x30, 1]);
    assert!(Pagemap::decode(&unknown).is_none());
    let mut endless = THREE_PAGES[..14].to_vec();
    endless.extend([12, 0, 0, 0, 0x08]);
    endless.extend([0xff; 11]);
    assert!(Pagemap::decode(&endless).is_none());
}
