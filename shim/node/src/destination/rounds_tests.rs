use super::*;

fn wish(rounds: Option<u32>) -> Wish {
    Wish {
        endpoint: "a:1".to_owned(),
        namespace: "shop".to_owned(),
        pod: "redis".to_owned(),
        max_downtime: Duration::from_millis(300),
        bandwidth: 0,
        keep_connections: true,
        archive: None,
        rounds,
    }
}

#[test]
fn as_many_rounds_as_are_asked_for() {
    for number in [0, 1, 3] {
        let wish = wish(Some(number));
        let mut course = Course::default();
        assert!(
            !course.another(&wish, 8, true, false),
            "not before all are here"
        );
        while course.another(&wish, 8, true, true) {
            course.round += 1;
            course.ended(1 << 30, Duration::from_secs(9));
        }
        assert_eq!(course.round, number);
    }
}

#[test]
fn rounds_go_on_until_the_rest_fits_or_does_not_shrink() {
    let wish = wish(None);
    let run = |sizes: &[(u64, u64)]| {
        let mut course = Course::default();
        let mut sizes = sizes.iter();
        while course.another(&wish, 8, false, true) {
            let Some((bytes, millis)) = sizes.next() else {
                break;
            };
            course.round += 1;
            course.ended(*bytes, Duration::from_millis(*millis));
        }
        course.round
    };
    assert_eq!(
        run(&[(100, 10_000), (50, 5_000), (10, 1_000), (1, 100), (1, 100)]),
        4
    );
    assert_eq!(
        run(&[
            (100, 10_000),
            (50, 5_000),
            (49, 4_900),
            (48, 4_800),
            (47, 4_700)
        ]),
        4
    );
    // Two alike by chance, then it goes on.
    assert_eq!(
        run(&[
            (100, 10_000),
            (50, 5_000),
            (50, 5_000),
            (20, 2_000),
            (1, 100)
        ]),
        5
    );
    // Three quarters of the link's rate are written all the time.
    let steady: Vec<(u64, u64)> = (0..6)
        .map(|n| (100 * 3_u64.pow(n) * 4_u64.pow(6 - n), 9_000))
        .collect();
    assert_eq!(run(&steady), 6);
    assert_eq!(run(&[(100, 100)]), 1);
    let slow: Vec<(u64, u64)> = (0..20).map(|n| (1 << (40 - 2 * n), 10_000)).collect();
    assert_eq!(run(&slow), 8);
}
