use super::*;

#[test]
fn names_differ_by_content_only() {
    assert_eq!(Tree::Node.cache_name(), Tree::Node.cache_name());
    assert_ne!(Tree::Node.cache_name(), Tree::Core.cache_name());
    assert_eq!(fingerprint(b""), 0xcbf2_9ce4_8422_2325);
    assert_eq!(fingerprint(b"a"), 0xaf63_dc4c_8601_ec8c);
}
