use super::reference;

#[test]
fn short_names_become_full() {
    assert_eq!(reference("redis"), "localhost/redis:1");
    assert_eq!(reference("example/redis:2"), "example/redis:2");
}
